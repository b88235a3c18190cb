"""From the files of an experiment to the arrays that its figures show."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from monai.bundle import ConfigParser

from bundle.data import items_by_site, load_datalist
from bundle.evaluation import SIDES, read_examples
from bundle.report import get_metric, order_settings, plain_settings
from bundle.settings import RELEASED, generator_setting
from bundle.workflows.experiment import Experiment

__all__ = ["ShownCases", "first_of_sites", "neighbour_examples", "synthesis_rows"]

_CASES_PER_SITE = 3


def synthesis_rows(experiment: Experiment, setting: str, samples_per_site: int = 2) -> list[dict]:
    """
    Conditions, synthetic and real images of some samples of every site, for :func:`bundle.report.synthesis_grid`.

    The n-th condition that a site released is that of the n-th sample of its data; conditions of the server's own bank
    have no real image here, and a site that released none has no row. Where every synthetic image is drawn from a
    transformed condition, it is that one which is shown. Where the channels of an image are no colours, each has a row
    of its own.
    """
    seed = experiment.seeds[0]
    output_dir = experiment.output_dir(setting, seed)
    trained = generator_setting(setting)
    parser = experiment.workflow("train", trained, seed).parser
    make_samples = parser.get_parsed_content("samples_def")
    num_classes = len(parser.get_parsed_content("label_groups"))
    modalities = parser.get_parsed_content("modalities")
    synthetic = {item["case"]: item for item in load_datalist(output_dir / "synthetic", modalities).training}
    # what the images were made from: conditions of sites, of the server's own bank, or both
    made_from = experiment.workflow("generate", setting, seed).make("dataset")
    released = {item["site"] for item in made_from.data if item["condition_source"] == RELEASED}
    first: dict[tuple[str, int], int] = {}
    for place, item in enumerate(made_from.data):
        first.setdefault((item["site"], item["index"]), place)
    items_of = items_by_site(experiment.datalist, trained)
    rows = []
    for site, conditions in made_from.conditions.items():
        if site in released:
            # samples are in the order of the cases: the first cases have the first samples
            real = make_samples(data=items_of[site][:_CASES_PER_SITE], name=f"figures, {site}")
            known = list(range(len(real)))
        else:
            real, known = None, list(range(len(conditions)))
        known = [i for i in known if (site, i) in first]  # of others nothing is drawn
        if not known:
            continue
        # conditions without any class, where the task has such, are the less telling ones
        telling = [i for i in known if conditions[i][:num_classes].any()] or known
        places = ((np.arange(samples_per_site) + 0.5) * len(telling) / samples_per_site).astype(int)
        chosen = [telling[place] for place in dict.fromkeys(places.tolist())]
        # read as a training reads them
        made = [made_from[first[site, i]] for i in chosen]
        cases = [synthetic[f"{site}_{item['index']:05d}_{item['copy']}"] for item in made]
        drawn = make_samples(data=cases, name=f"figures, {setting}")
        samples = [
            {
                "condition": _picture(made[place]["image"].numpy(), parser),
                "synthetic": _picture(drawn[place]["image"].numpy(), parser),
                "real": None if real is None else _picture(real[i]["image"].numpy(), parser),
            }
            for place, i in enumerate(chosen)
        ]
        rgb = parser.get_parsed_content("display_rgb")
        has = experiment.datalist.modalities_of(site) if site in experiment.datalist.sites else modalities
        rows += _by_channel(site, samples, [""] if rgb else modalities, list(has))
    return rows


def first_of_sites(rows: list[dict], sites: int = 3) -> list[dict]:
    """
    One sample of a few sites, in its first channel: what there is a real image of, rather than what there is none of.

    Args:
        rows: of :func:`synthesis_rows`.
        sites: at most how many.
    """
    of_site: dict[str, dict] = {}
    for row in rows:
        if row["samples"]:
            of_site.setdefault(row["of_site"], {**row, "samples": row["samples"][:1]})
    return sorted(of_site.values(), key=lambda row: row["samples"][0]["real"] is None)[:sites]


def _by_channel(site: str, samples: list[dict], channels: list[str], has: list[str]) -> list[dict]:
    """Of a channel that the site does not have there is no real image."""
    if len(channels) == 1:
        return [{"site": site, "of_site": site, "samples": samples}]
    return [
        {
            "site": f"{site} · {channel}",
            "of_site": site,
            "samples": [
                s
                | {
                    "synthetic": s["synthetic"][[number]],
                    "real": s["real"][[has.index(channel)]] if s["real"] is not None and channel in has else None,
                }
                for s in samples
            ],
        }
        for number, channel in enumerate(channels)
    ]


def neighbour_examples(experiment: Experiment, setting: str) -> list[dict]:
    """The examples that the stage ``quality`` kept, for :func:`bundle.report.neighbour_panel`; none without it."""
    folder = experiment.output_dir(setting, experiment.seeds[0]) / "quality"
    if not (folder / "neighbours.json").exists():
        return []
    parser = experiment.workflow("quality", setting, experiment.seeds[0]).parser
    examples = read_examples(folder)
    for side in (example[key] for example in examples for key in SIDES if example[key]):
        image = side["image"] if parser.get_parsed_content("display_rgb") else side["image"][:1]
        side["image"] = _picture(image, parser)
    return examples


def shown_settings(results: Mapping) -> list[str]:
    """Those that are compared one by one; of a run that has none of them, all."""
    return plain_settings(results) or order_settings(results)


class ShownCases:
    """
    Held-out cases and what the settings segmented in them, as pictures: of the first seed, chosen by a metric.

    Args:
        experiment: where the cases and predictions lie.
        results: the content of its ``results.json``.
        metric: what ranks the cases.
    """

    def __init__(self, experiment: Experiment, results: Mapping, metric: str) -> None:
        self.experiment = experiment
        self.seed = experiment.seeds[0]
        self.settings = [s for s in shown_settings(results) if metric in results["settings"][s]]
        self.chosen_by = "asyndgan" if "asyndgan" in self.settings else self.settings[-1]
        self.scores = {
            setting: {case: values[0] for case, values in results["settings"][setting][metric]["per_case"].items()}
            for setting in self.settings
        }
        self.lower_is_better = get_metric(metric).better == "lower"
        self.parser = experiment.workflow("evaluate", self.settings[-1], self.seed).parser
        self.load = self.parser.get_parsed_content("display_preprocessing")
        self.items = {item["case"]: item for item in experiment.datalist.test}
        self._read: dict[str, tuple[np.ndarray, np.ndarray, tuple]] = {}

    def extremes(self) -> list[dict]:
        """Worst, median and best case of every setting, for :func:`bundle.report.extremes_grid`."""
        rows = []
        for setting in self.settings:
            row: dict = {"setting": setting}
            for column, case in self._chosen(setting).items():
                shown = self._shown(case, [setting])
                score = self.scores[setting][case]
                row[column] = shown | {"prediction": shown["predictions"].get(setting), "score": score}
            rows.append(row)
        return rows

    def of_all_settings(self) -> list[dict]:
        """AsynDGAN's worst, median and best case by every setting, for `bundle.report.segmentation_panel`."""
        chosen = dict.fromkeys(self._chosen(self.chosen_by).values())
        return [
            self._shown(case, self.settings) | {"scores": {s: self.scores[s].get(case) for s in self.settings}}
            for case in chosen
        ]

    def _chosen(self, setting: str) -> dict[str, str]:
        known = {case: score for case, score in self.scores[setting].items() if score is not None}
        ranked = sorted(known, key=known.get, reverse=self.lower_is_better)
        if not ranked:
            return {}
        return {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}

    def _shown(self, case: str, settings: list[str]) -> dict:
        image, truth, place = self._case(case)
        suffix = self.parser.get_parsed_content("prediction_suffix")
        predictions = {}
        for setting in settings:
            folder = self.experiment.output_dir(setting, self.seed) / "evaluation" / "predictions"
            if (file := folder / f"{case}{suffix}").exists():
                label = np.asarray(self.load({"label": str(file)})["label"])[0][place]
                predictions[setting] = _picture(_mask(label, self.parser), self.parser)
        return {"case": case, "image": image, "truth": truth, "predictions": predictions}

    def _case(self, case: str) -> tuple[np.ndarray, np.ndarray, tuple]:
        """Image and reference as pictures, and which part of the case they are."""
        if case in self._read:
            return self._read[case]
        shown = self.load({key: self.items[case][key] for key in ("image", "label")})
        image, truth = np.asarray(shown["image"]), np.asarray(shown["label"])[0]
        place = (..., int((truth > 0).sum(axis=(0, 1)).argmax())) if truth.ndim == 3 else (...,)
        rgb = self.parser.get_parsed_content("display_rgb")
        picture = _picture(image[place] if rgb else image[:1][place], self.parser)
        self._read[case] = picture, _picture(_mask(truth[place], self.parser), self.parser), place
        return self._read[case]


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
