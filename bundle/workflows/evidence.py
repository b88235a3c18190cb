"""From the files of an experiment to the pictures of its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from monai.transforms import LoadImage, ScaleIntensityRangePercentiles

from bundle.data import items_by_site, load_datalist
from bundle.report import (
    display_name,
    key_metric,
    loss_curves,
    metric_boxplot,
    metric_names,
    read_scalars,
    segmentation_panel,
    synthesis_grid,
    write_report,
)
from bundle.settings import GAN_SETTINGS
from bundle.workflows.experiment import Experiment

__all__ = ["make_report"]

_load = LoadImage(image_only=True, ensure_channel_first=True)
_CASES_PER_SITE = 3


def make_report(experiment: Experiment, results: Mapping) -> Path:
    """
    Draw the figures of an experiment into ``figures/`` and write ``report.html`` beside them.

    Args:
        experiment: the experiment; what it has not finished is left out.
        results: the content of its ``results.json``.

    Returns:
        The path of the page.
    """
    folder = Path(experiment.run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figures = []

    def add(name: str, title: str, caption: str) -> Path:
        figures.append((title, caption, folder / name))
        return folder / name

    key = key_metric(results)
    trained = [s for s in GAN_SETTINGS if (experiment.output_dir(s, experiment.seeds[0]) / "synthetic").is_dir()]
    for setting in reversed(trained):
        grid = synthesis_rows(experiment, setting)
        caption = "Condition, the generator's image of it, and the real image that the condition was drawn from."
        path = add(f"synthesis_{setting}.png", f"Synthetic images, {display_name(setting)}", caption)
        parser = experiment.workflow("train", setting, experiment.seeds[0]).parser
        synthesis_grid(grid, path, labels=parser.get_parsed_content("condition_labels"))
    if key is not None:
        cases = segmentation_cases(experiment, results, key)
        caption = (
            f"The held-out cases with the lowest, the median and the highest {key} of the last setting in the table, "
            "in the slice with the most foreground."
        )
        segmentation_panel(cases, add("segmentations.png", "Segmentations of held-out cases", caption))
        for metric in metric_names(results):
            caption = "One point per held-out case (mean over seeds)."
            metric_boxplot(results, metric, add(f"cases_{metric}.png", f"{metric} per case", caption))
    curves = {
        display_name(setting): read_scalars(experiment.output_dir(setting, experiment.seeds[0]) / "gan" / "events")
        for setting in reversed(trained)
    }
    if curves:
        loss_curves(curves, add("losses.png", "Losses", f"Per site and term, seed {experiment.seeds[0]}."))
    return write_report(Path(experiment.run_dir) / "report.html", results, figures)


def synthesis_rows(experiment: Experiment, setting: str, samples_per_site: int = 2) -> list[dict]:
    """
    Conditions, synthetic and real images of some samples of every site, for :func:`bundle.report.synthesis_grid`.

    The n-th condition of a site in the generator's folder is that of the n-th sample of the site's data. Where an image
    has several modalities, each has a row of its own.
    """
    seed = experiment.seeds[0]
    output_dir = experiment.output_dir(setting, seed)
    parser = experiment.workflow("train", setting, seed).parser
    turns = parser.get_parsed_content("display_rot90")
    make_samples = parser.get_parsed_content("samples_def")
    num_classes = len(parser.get_parsed_content("label_groups"))
    synthetic = {item["case"]: item["image"] for item in load_datalist(output_dir / "synthetic").training}
    rows = []
    with np.load(output_dir / "gan" / "conditions.npz", allow_pickle=False) as conditions:
        for site, items in items_by_site(experiment.datalist, setting).items():
            # samples are in the order of the cases: the first cases have the first samples
            real = make_samples(data=items[:_CASES_PER_SITE], name=f"figures, {site}")
            # conditions without any class, where the task has such, are the less telling ones
            telling = [i for i in range(len(real)) if conditions[site][i][:num_classes].any()] or range(len(real))
            places = np.linspace(0, len(telling) - 1, samples_per_site + 2).round().astype(int)[1:-1]
            chosen = [telling[place] for place in places]
            samples = [
                {
                    "condition": _upright(conditions[site][i], turns),
                    "synthetic": _upright(_plane(_load(synthetic[f"{site}_{i:05d}_0"])), turns),
                    "real": _upright(real[i]["image"].numpy(), turns),
                }
                for i in chosen
            ]
            rows += _by_modality(site, samples, parser.get_parsed_content("modalities"))
    return rows


def _by_modality(site: str, samples: list[dict], modalities: list[str]) -> list[dict]:
    if len(modalities) == 1:
        return [{"site": site, "samples": samples}]
    return [
        {
            "site": f"{site} · {modality}",
            "samples": [s | {key: s[key][[channel]] for key in ("synthetic", "real")} for s in samples],
        }
        for channel, modality in enumerate(modalities)
    ]


def segmentation_cases(experiment: Experiment, results: Mapping, metric: str) -> list[dict]:
    """Segmentations of three held-out cases by every setting, for :func:`bundle.report.segmentation_panel`."""
    seed = experiment.seeds[0]
    last = list(results["settings"])[-1]
    scores = {case: values[0] for case, values in results["settings"][last][metric]["per_case"].items()}
    ranked = sorted(scores, key=scores.get)
    chosen = dict.fromkeys([ranked[0], ranked[len(ranked) // 2], ranked[-1]])
    parser = experiment.workflow("evaluate", last, seed).parser
    turns = parser.get_parsed_content("display_rot90")
    modalities = parser.get_parsed_content("modalities")
    items = {item["case"]: item for item in load_datalist(experiment.dataset_dir, modalities).test}
    rows = []
    for case in chosen:
        item = items[case]
        truth = np.asarray(_load(item["label"]))[0] > 0
        place = (..., int(truth.sum(axis=(0, 1)).argmax())) if truth.ndim == 3 else (...,)
        image = ScaleIntensityRangePercentiles(0, 99.5, -1, 1, clip=True)(_load(item["image"]))
        files = {
            setting: experiment.output_dir(setting, seed) / "evaluation" / "predictions" / f"{case}.nii.gz"
            for setting in results["settings"]
        }
        rows.append(
            {
                "case": case,
                "image": _upright(np.asarray(image)[place], turns),
                "truth": _upright(truth[place], turns),
                "predictions": {
                    s: _upright(np.asarray(_load(f))[0][place] > 0, turns) for s, f in files.items() if f.exists()
                },
                "scores": {s: results["settings"][s][metric]["per_case"][case][0] for s in results["settings"]},
            }
        )
    return rows


def _plane(image: np.ndarray) -> np.ndarray:
    """C×H×W of an image that may be stored as a volume of one slice."""
    image = np.asarray(image)
    return image[..., 0] if image.ndim == 4 else image


def _upright(image: np.ndarray, turns: int) -> np.ndarray:
    """Array axes to picture rows and columns."""
    return np.rot90(image, turns, axes=(-2, -1))
