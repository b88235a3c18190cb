"""From the files of an experiment to its pages: which figures there are, what is said below them, and for whom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bundle.evaluation import read_draws
from bundle.report import (
    PageFigure,
    display_name,
    extremes_grid,
    get_metric,
    histogram_row,
    key_metric,
    loss_curves,
    make_report,
    metric_boxplot,
    metric_names,
    neighbour_panel,
    read_scalars,
    segmentation_panel,
    synthesis_grid,
    write_figure_list,
)
from bundle.settings import all_settings, trains_generator
from bundle.sheet import write_sheets
from bundle.workflows.experiment import Experiment
from bundle.workflows.figure_data import ShownCases, first_of_sites, neighbour_examples, synthesis_rows

__all__ = ["draw_figures", "write_pages"]

_DRAWN = ("syn_all", "syn_subset", "labels_only", "teachers_only", "asyndgan")
"""Kinds of settings whose synthetic images are shown."""
OUTLINE = "outline"
"""What a task calls the channel of a condition that contains the others."""


def write_pages(experiment: Experiment, results: Mapping) -> Path:
    """
    Draw the figures of an experiment and write its two pages: the full one, and the one that may be passed on. The
    second costs a second, and the images that its figures need may be elsewhere later. The sheets of its synthetic data
    sets are written with what is known now.

    Args:
        experiment: the experiment; what it has not finished is left out.
        results: the content of its ``results.json``, which is written anew with the time that the figures took.

    Returns:
        The path of the full page.
    """
    draw_figures(experiment, results)
    # the figures belong to the run: they take minutes
    experiment.with_time_until_now(results)
    write_sheets(experiment.run_dir)
    make_report(experiment.run_dir, shareable=True)
    return make_report(experiment.run_dir)


def draw_figures(experiment: Experiment, results: Mapping) -> list[PageFigure]:
    """Draw the figures of an experiment into its folder ``figures/``, with the list that pages are made from."""
    folder = Path(experiment.run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    seed = experiment.seeds[0]
    trained = [
        setting
        for setting in reversed(all_settings(_DRAWN, experiment.datalist.sites))
        if (experiment.output_dir(setting, seed) / "synthetic").is_dir()
    ]
    figures = []
    if trained and experiment.workflow("train", trained[0], seed).make("display_histogram"):
        figures += _histograms(experiment, results, trained[::-1], folder)
    else:
        for number, setting in enumerate(trained):
            figures += _synthesis(experiment, setting, folder, first=number == 0)
    figures += [figure for setting in trained for figure in _neighbours(experiment, setting, folder)]
    # of segmentations: where there are none, the table's metrics are of the synthetic data themselves
    if results.get("settings") and (key := key_metric(results)) is not None:
        figures += _segmentations(experiment, results, key, folder) + _cases(results, folder)
    if of_generators := [setting for setting in trained if trains_generator(setting)]:
        path = folder / "losses.png"
        events = {s: experiment.output_dir(s, seed) / "gan" / "events" for s in of_generators}
        curves = {display_name(s): read_scalars(folder) for s, folder in events.items()}
        loss_curves(curves, path)
        alt = "Curves of the losses over the steps, a panel for each term, a line for each site."
        figures.append(PageFigure(path, "Losses", f"Per site and term, seed {seed}.", alt, "losses", "both"))
    write_figure_list(folder, figures)
    return figures


def _synthesis(experiment: Experiment, setting: str, folder: Path, first: bool) -> list[PageFigure]:
    """Synthesis beside real, and without real; ``first``: also a small one of some sites, for the first screen."""
    rows = synthesis_rows(experiment, setting)
    labels = experiment.workflow("generate", setting, experiment.seeds[0]).make("condition_labels")
    name = display_name(setting)
    shown = {f"synthesis_{setting}": (rows, f"Synthetic images, {name}", "synthesis")}
    if first:
        shown["first_look"] = (first_of_sites(rows), f"{name}: synthesis", "first")
    figures = []
    for stem, (of_sites, named, group) in shown.items():
        for pages in ("full", "shareable"):
            title, real = named, pages == "full"
            path = folder / (f"{stem}.png" if real else f"{stem}_shareable.png")
            synthesis_grid(of_sites, path, labels=labels, outline=bool(labels) and labels[-1] == OUTLINE, real=real)
            caption = (
                "Condition, the generator's image of it, and the real image whose label map it is, or was made from."
            )
            alt = "For each site, side by side: a label map, the synthetic image drawn on it, the real image."
            if not real:
                caption = "Condition, which is a label map or was made from one, and the generator's image of it."
                alt = "For each site, side by side: a label map, and the synthetic image drawn on it."
            if group == "first":
                title += " beside real" if real else ""
                caption += " Some of the sites; all are below." if len(of_sites) < len(rows) else ""
            figures.append(PageFigure(path, title, caption, alt, group, pages))
    return figures


def _histograms(experiment: Experiment, results: Mapping, settings: list[str], folder: Path) -> list[PageFigure]:
    """Synthetic numbers of every setting in one row, of the first seed: with the real ones, and without."""
    seed = experiment.seeds[0]
    panels, scores = {}, {}
    for setting in settings:
        workflow = experiment.workflow("quality", setting, seed)
        measure, load = workflow.make("quality_def"), workflow.make("quality_def::load")
        values, labels = read_draws(workflow.make("synthetic_datalist").training, load)
        panels[setting] = {name: values[np.isin(labels, members)] for name, members in measure.components.items()}
        if score := results.get("quality", {}).get(setting, {}).get("w1"):
            scores[setting] = score["per_seed"][0]
    drawn = {
        "full": (
            "histograms.png",
            "Synthetic numbers against the data",
            "Density of the held-out real numbers of all sites, each site weighted by its share of the training data "
            "(outline), and of the synthetic numbers, by component. W1 is the distance between the two",
            "Histograms, a panel for each setting: synthetic numbers in colours under the outline of the real ones.",
        ),
        "shareable": (
            "histograms_shareable.png",
            "Synthetic numbers",
            "Density of the synthetic numbers, by component. W1 is their distance from held-out real numbers",
            "Histograms, a panel for each setting: synthetic numbers in the colours of their components.",
        ),
    }
    figures = []
    for pages, (file, title, caption, alt) in drawn.items():
        path, real = folder / file, pages == "full"
        histogram_row(panels, measure.held_out, path, weights=measure.weights, scores=scores, outline=real)
        figures.append(PageFigure(path, title, f"{caption}; seed {seed}.", alt, "first", pages))
    return figures


def _neighbours(experiment: Experiment, setting: str, folder: Path) -> list[PageFigure]:
    examples = neighbour_examples(experiment, setting)
    if not examples:
        return []
    caption = (
        "Images that are as near to a training image as any, measured against the distance from that training "
        "image to the nearest one of another patient; at most one for each patient. Numbers are distances "
        "between neighbours in the row. Left: all training images, the one of the synthetic image's own label "
        "map among them. Right: the patient of that label map left out. A copy would look like its neighbour, "
        "at a distance near 0."
    )
    alt = "Rows of three images: a synthetic one, the nearest training image, and the real image nearest to that one."
    path = folder / f"neighbours_{setting}.png"
    neighbour_panel(examples, path)
    return [PageFigure(path, f"Nearest training images, {display_name(setting)}", caption, alt, "neighbours", "full")]


def _segmentations(experiment: Experiment, results: Mapping, key: str, folder: Path) -> list[PageFigure]:
    label = get_metric(key, results).label
    shown = ShownCases(experiment, results, key)
    where = (
        "A volume is shown in the slice with the most foreground, a large tile in its middle; the score is of the "
        f"whole. Seed {experiment.seeds[0]}."
    )
    extremes_grid(shown.extremes(), folder / "extremes.png", score_name=label)
    segmentation_panel(shown.of_all_settings(), folder / "segmentations.png", score_name=label)
    last = display_name(shown.chosen_by)
    return [
        PageFigure(
            folder / "extremes.png",
            "The worst, a typical and the best segmentation of every setting",
            f"For every setting the held-out cases with its worst, its median and its best {label}. {where}",
            "A row for each setting with three real images, outlined by the reference and by the segmentation.",
            "segmentations",
            "full",
        ),
        PageFigure(
            folder / "segmentations.png",
            "The same cases in all settings",
            f"The cases with the worst, the median and the best {label} of {last}, as every setting segments them. "
            f"{where}",
            "For each case the real image, the reference, and a panel with the outline that each setting draws.",
            "segmentations",
            "full",
        ),
    ]


def _cases(results: Mapping, folder: Path) -> list[PageFigure]:
    figures = []
    # the points of a group of cases are among those of all, and classes have a table
    for metric in (name for name in metric_names(results) if not {"/", ":"} & set(name)):
        path, label = folder / f"cases_{metric}.png", get_metric(metric, results).label
        metric_boxplot(results, metric, path)
        caption = "A point per held-out case (mean over seeds); the box holds the middle half, its line is the median."
        alt = f"Box plots of {label}, a box for each setting with a point for each held-out case."
        figures.append(PageFigure(path, f"{label} of every held-out case", caption, alt, "cases", "both"))
    return figures
