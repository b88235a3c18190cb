"""From the files of an experiment to the pictures of its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from monai.bundle import ConfigParser

from bundle.data import items_by_site, load_datalist
from bundle.federation import read_conditions
from bundle.metrics import read_draws
from bundle.report import (
    display_name,
    histogram_row,
    key_metric,
    loss_curves,
    metric_boxplot,
    metric_names,
    read_scalars,
    segmentation_panel,
    synthesis_grid,
    write_report,
)
from bundle.settings import all_settings
from bundle.workflows.experiment import Experiment

__all__ = ["make_report"]

OUTLINE = "outline"
"""What a task calls the channel of a condition that contains the others."""
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

    # of segmentations: where there are none, the table's metrics are of the synthetic data themselves
    key = key_metric(results) if results.get("settings") else None
    trained = [
        setting
        for setting in all_settings(experiment.kinds, experiment.datalist.sites)
        if (experiment.output_dir(setting, experiment.seeds[0]) / "synthetic").is_dir()
    ]
    drawn = trained
    if trained and experiment.workflow("train", trained[0], experiment.seeds[0]).make("display_histogram"):
        draw_histograms(experiment, results, trained, add)
        drawn = []
    for setting in reversed(drawn):
        grid = synthesis_rows(experiment, setting)
        caption = "Condition, the generator's image of it, and the real image that the condition was drawn from."
        path = add(f"synthesis_{setting}.png", f"Synthetic images, {display_name(setting)}", caption)
        parser = experiment.workflow("train", setting, experiment.seeds[0]).parser
        labels = parser.get_parsed_content("condition_labels")
        synthesis_grid(grid, path, labels=labels, outline=bool(labels) and labels[-1] == OUTLINE)
    if key is not None:
        cases = segmentation_cases(experiment, results, key)
        caption = (
            f"The held-out cases with the lowest, the median and the highest {key} of the last setting in the table, "
            "of a volume in the slice with the most foreground, of a large tile in its middle."
        )
        segmentation_panel(cases, add("segmentations.png", "Segmentations of held-out cases", caption))
        # the points of a group of cases are among those of all
        for metric in (name for name in metric_names(results) if "/" not in name):
            caption = "One point per held-out case (mean over seeds)."
            metric_boxplot(results, metric, add(f"cases_{metric}.png", f"{metric} per case", caption))
    curves = {
        display_name(setting): read_scalars(experiment.output_dir(setting, experiment.seeds[0]) / "gan" / "events")
        for setting in reversed(trained)
    }
    if curves:
        loss_curves(curves, add("losses.png", "Losses", f"Per site and term, seed {experiment.seeds[0]}."))
    return write_report(Path(experiment.run_dir) / "report.html", results, figures)


def draw_histograms(
    experiment: Experiment, results: Mapping, settings: list[str], add: Callable[[str, str, str], Path]
) -> None:
    """Synthetic numbers of every setting in one row, of the first seed."""
    seed = experiment.seeds[0]
    panels, scores = {}, {}
    for setting in settings:
        workflow = experiment.workflow("quality", setting, seed)
        measure, load = workflow.make("quality_def"), workflow.make("quality_def::load")
        values, labels = read_draws(workflow.make("synthetic_datalist").training, load)
        panels[setting] = {name: values[np.isin(labels, members)] for name, members in measure.components.items()}
        if score := results.get("quality", {}).get(setting, {}).get("w1"):
            scores[setting] = score["per_seed"][0]
    caption = (
        "Density of the held-out real numbers of all sites, each site weighted by its share of the training data "
        f"(outline), and of the synthetic numbers, by component. W1 is the distance between the two; seed {seed}."
    )
    path = add("histograms.png", "Synthetic numbers against the data", caption)
    histogram_row(panels, measure.held_out, path, weights=measure.weights, scores=scores)


def synthesis_rows(experiment: Experiment, setting: str, samples_per_site: int = 2) -> list[dict]:
    """
    Conditions, synthetic and real images of some samples of every site, for :func:`bundle.report.synthesis_grid`.

    The n-th condition of a site in the generator's folder is that of the n-th sample of the site's data. Where the
    channels of an image are no colours, each has a row of its own.
    """
    seed = experiment.seeds[0]
    output_dir = experiment.output_dir(setting, seed)
    parser = experiment.workflow("train", setting, seed).parser
    make_samples = parser.get_parsed_content("samples_def")
    num_classes = len(parser.get_parsed_content("label_groups"))
    modalities = parser.get_parsed_content("modalities")
    synthetic = {item["case"]: item for item in load_datalist(output_dir / "synthetic", modalities).training}
    conditions = read_conditions(output_dir / "gan" / "conditions.npz")
    rows = []
    for site, items in items_by_site(experiment.datalist, setting).items():
        # samples are in the order of the cases: the first cases have the first samples
        real = make_samples(data=items[:_CASES_PER_SITE], name=f"figures, {site}")
        # conditions without any class, where the task has such, are the less telling ones
        telling = [i for i in range(len(real)) if conditions[site][i][:num_classes].any()] or range(len(real))
        places = ((np.arange(samples_per_site) + 0.5) * len(telling) / samples_per_site).astype(int)
        chosen = [telling[place] for place in dict.fromkeys(places.tolist())]
        # read as a training reads them
        drawn = make_samples(data=[synthetic[f"{site}_{i:05d}_0"] for i in chosen], name=f"figures, {setting}")
        samples = [
            {
                "condition": _picture(conditions[site][i], parser),
                "synthetic": _picture(drawn[place]["image"].numpy(), parser),
                "real": _picture(real[i]["image"].numpy(), parser),
            }
            for place, i in enumerate(chosen)
        ]
        rows += _by_channel(site, samples, [""] if parser.get_parsed_content("display_rgb") else modalities)
    return rows


def _by_channel(site: str, samples: list[dict], channels: list[str]) -> list[dict]:
    if len(channels) == 1:
        return [{"site": site, "samples": samples}]
    return [
        {
            "site": f"{site} · {channel}",
            "samples": [s | {key: s[key][[number]] for key in ("synthetic", "real")} for s in samples],
        }
        for number, channel in enumerate(channels)
    ]


def segmentation_cases(experiment: Experiment, results: Mapping, metric: str) -> list[dict]:
    """Segmentations of three held-out cases by every setting, for :func:`bundle.report.segmentation_panel`."""
    seed = experiment.seeds[0]
    last = list(results["settings"])[-1]
    scores = {case: values[0] for case, values in results["settings"][last][metric]["per_case"].items()}
    ranked = sorted(scores, key=scores.get)
    chosen = dict.fromkeys([ranked[0], ranked[len(ranked) // 2], ranked[-1]])
    parser = experiment.workflow("evaluate", last, seed).parser
    load = parser.get_parsed_content("display_preprocessing")
    rgb = parser.get_parsed_content("display_rgb")
    suffix = parser.get_parsed_content("prediction_suffix")
    items = {item["case"]: item for item in experiment.datalist.test}
    rows = []
    for case in chosen:
        shown = load({key: items[case][key] for key in ("image", "label")})
        image, truth = np.asarray(shown["image"]), np.asarray(shown["label"])[0]
        place = (..., int((truth > 0).sum(axis=(0, 1)).argmax())) if truth.ndim == 3 else (...,)
        files = {
            setting: experiment.output_dir(setting, seed) / "evaluation" / "predictions" / f"{case}{suffix}"
            for setting in results["settings"]
        }
        rows.append(
            {
                "case": case,
                "image": _picture(image[place] if rgb else image[:1][place], parser),
                "truth": _picture(_mask(truth[place], parser), parser),
                "predictions": {
                    s: _picture(_mask(np.asarray(load({"label": str(f)})["label"])[0][place], parser), parser)
                    for s, f in files.items()
                    if f.exists()
                },
                "scores": {s: results["settings"][s][metric]["per_case"][case][0] for s in results["settings"]},
            }
        )
    return rows


def _mask(label: np.ndarray, parser: ConfigParser) -> np.ndarray:
    """An instance map as it is; of classes, what is not background."""
    return label.astype(int) if parser.get_parsed_content("display_instances") else label > 0


def _picture(image: np.ndarray, parser: ConfigParser) -> np.ndarray:
    """
    Array axes to the rows and columns of a picture: x runs to the right, y downwards or, if the task says so, upwards.

    Of an image larger than the task's ``display_size`` the middle is shown.
    """
    size = parser.get_parsed_content("display_size")
    if size is not None:
        starts = [max(0, (n - size) // 2) for n in image.shape[-2:]]
        image = image[..., starts[0] : starts[0] + size, starts[1] : starts[1] + size]
    rows = np.swapaxes(image, -1, -2)
    return rows[..., ::-1, :] if parser.get_parsed_content("display_y_up") else rows
