"""From the files of an experiment to its report: which figures there are, and what is said below them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import yaml

from bundle.evaluation import read_draws
from bundle.report import (
    display_name,
    extremes_grid,
    get_metric,
    histogram_row,
    key_metric,
    loss_curves,
    metric_boxplot,
    metric_names,
    neighbour_panel,
    order_settings,
    read_scalars,
    segmentation_panel,
    synthesis_grid,
    write_report,
)
from bundle.settings import all_settings
from bundle.workflows.experiment import Experiment
from bundle.workflows.pictures import ShownCases, neighbour_examples, synthesis_rows

__all__ = ["make_report"]

OUTLINE = "outline"
"""What a task calls the channel of a condition that contains the others."""
# a report is passed on: paths of the machine that made it say nothing to others
_PLACES = ("bundle_root", "dataset_dir", "run_dir", "cache_dir")


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
        caption = "Condition, the generator's image of it, and the real image whose label map it is, or was made from."
        path = add(f"synthesis_{setting}.png", f"Synthetic images, {display_name(setting)}", caption)
        parser = experiment.workflow("train", setting, experiment.seeds[0]).parser
        labels = parser.get_parsed_content("condition_labels")
        synthesis_grid(grid, path, labels=labels, outline=bool(labels) and labels[-1] == OUTLINE)
    for setting in reversed(trained):
        if examples := neighbour_examples(experiment, setting):
            caption = (
                "Images that are as near to a training image as any, measured against the distance from that training "
                "image to the nearest one of another patient; at most one for each patient. Numbers are distances "
                "between neighbours in the row. Left: all training images, the one of the synthetic image's own label "
                "map among them. Right: the patient of that label map left out. A copy would look like its neighbour, "
                "at a distance near 0."
            )
            title = f"Nearest training images, {display_name(setting)}"
            neighbour_panel(examples, add(f"neighbours_{setting}.png", title, caption))
    if key is not None:
        label = get_metric(key, results).label
        shown = ShownCases(experiment, results, key)
        where = (
            "A volume is shown in the slice with the most foreground, a large tile in its middle; the score is of the "
            f"whole. Seed {experiment.seeds[0]}."
        )
        caption = f"For every setting the held-out cases with its worst, its median and its best {label}. {where}"
        path = add("extremes.png", "The worst, a typical and the best segmentation of every setting", caption)
        extremes_grid(shown.extremes(), path, score_name=label)
        last = display_name(order_settings(results)[-1])
        caption = (
            f"The cases with the worst, the median and the best {label} of {last}, as every setting segments them."
        )
        path = add("segmentations.png", "The same cases in all settings", f"{caption} {where}")
        segmentation_panel(shown.of_all_settings(), path, score_name=label)
        # the points of a group of cases are among those of all, and classes have a table
        for metric in (name for name in metric_names(results) if not {"/", ":"} & set(name)):
            label = get_metric(metric, results).label
            caption = (
                "A point per held-out case (mean over seeds); the box holds the middle half, its line is the median."
            )
            metric_boxplot(results, metric, add(f"cases_{metric}.png", f"{label} of every held-out case", caption))
    curves = {
        display_name(setting): read_scalars(experiment.output_dir(setting, experiment.seeds[0]) / "gan" / "events")
        for setting in reversed(trained)
    }
    if curves:
        loss_curves(curves, add("losses.png", "Losses", f"Per site and term, seed {experiment.seeds[0]}."))
    # the figures belong to the run: they take minutes
    results = experiment.with_time_until_now(results)
    return write_report(
        Path(experiment.run_dir) / "report.html", results, figures, configs=resolved_configs(experiment)
    )


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


def resolved_configs(experiment: Experiment) -> list[tuple[str, str]]:
    """The configuration that AsynDGAN's generator was trained with, without what only says where files lie."""
    path = experiment.output_dir("asyndgan", experiment.seeds[0]) / "gan" / "config.yaml"
    if not path.is_file():
        return []
    kept = yaml.safe_load(path.read_text(encoding="utf-8"))
    text = yaml.safe_dump({key: value for key, value in kept.items() if key not in _PLACES}, sort_keys=False, width=100)
    return [(f"Configuration of AsynDGAN's training, seed {experiment.seeds[0]}", text)]
