"""One HTML page about a run: a single file that opens without a network, whole or as it may be passed on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bundle.files import atomic_path, require_file

from .gain import read_gains
from .gain_figures import gain_figures
from .gain_section import opening
from .modality_figure import modality_figure
from .page_figures import PageFigure, read_figures
from .sections import SECTIONS, Report, Section, first_screen
from .shareable import without_case_names, without_paths
from .table import group_starts

__all__ = ["FULL_PAGE", "SHAREABLE_PAGE", "make_report", "render_section", "write_report"]

FULL_PAGE = "report.html"
SHAREABLE_PAGE = "report_shareable.html"

SCORED_INSIDE = "federated_evaluation.json"
"""Written by ``asyndgan federate evaluate``."""
_PLACES = ("bundle_root", "dataset_dir", "run_dir", "cache_dir")
"""Keys of a configuration that only say where files lie: they say nothing to others."""


def make_report(run_dir: str | os.PathLike[str], shareable: bool = False) -> Path:
    """
    Write the page of a run from what the run left: ``results.json``, ``federated_evaluation.json`` where segmenters
    were scored inside the hospitals, ``figures/`` and the configuration of AsynDGAN's training. Nothing is drawn but
    what follows from ``results.json``, and no data set is needed.

    Args:
        run_dir: folder of the run.
        shareable: whether to leave out all that shows a real image or names a case.

    Returns:
        The path written: :data:`FULL_PAGE` or :data:`SHAREABLE_PAGE` in ``run_dir``.

    Raises:
        FileNotFoundError: there is no ``results.json``.
        ValueError: a file is damaged, named with what was expected.
        OSError: the page cannot be written.
    """
    folder = Path(run_dir)
    results = dict(_read_results(folder / "results.json"))
    if (folder / SCORED_INSIDE).is_file():
        results["federated_evaluation"] = _read_mapping(folder / SCORED_INSIDE, "scores from inside the hospitals")
    figures = read_figures(folder / "figures")
    if (gains := read_gains(results)) is not None:
        figures += gain_figures(gains, folder / "figures")
    figures += modality_figure(results, folder / "figures")
    return write_report(
        folder / (SHAREABLE_PAGE if shareable else FULL_PAGE),
        results,
        figures,
        configs=_configs(folder, results, shareable),
        shareable=shareable,
    )


def write_report(
    path: str | os.PathLike[str],
    results: Mapping[str, Any],
    figures: Sequence[PageFigure],
    notes: str | Sequence[str] | None = None,
    *,
    results_path: str = "results.json",
    configs: Sequence[tuple[str, str]] = (),
    shareable: bool = False,
) -> Path:
    """Write a page: what each hospital gains where the run has that, the first screen, then folded the sections of
    `bundle.report.sections.SECTIONS`.

    The file needs no network and no other file: images are embedded, styles inline, scripts absent. It is
    written whole or not at all.

    Args:
        path: HTML file to write; its folder is made.
        results: contents of results.json; any block may be missing, its section is then left out.
        figures: in order, those of both kinds of page; a file that cannot be read is named in its place.
        notes: a paragraph or several, as plain text, shown on the first screen. They are not looked into.
        results_path: where the reader finds results.json, as it should be printed.
        configs: (what it is of, the resolved configuration as text) of stages, shown folded up at the end. They are
            not looked into.
        shareable: whether to leave out the figures that show real images or name cases, cases' names and the command.

    Returns:
        The path written.

    Raises:
        OSError: the page cannot be written.
    """
    notes = [notes] if isinstance(notes, str) else list(notes or [])
    kept = [figure for figure in figures if figure.pages in ("both", "shareable" if shareable else "full")]
    shown = without_case_names(results) if shareable else results
    report = Report(shown, kept, notes, results_path, configs, shareable)
    gains = read_gains(shown)
    sections = [section for make in SECTIONS if (section := make(report)) is not None]
    page = (
        _environment()
        .get_template("page.html")
        .render(
            name=report.name,
            shareable=shareable,
            shows_cases=any(figure.pages == "full" for figure in kept),
            shows_label_maps=any(figure.group == "synthesis" for figure in kept),
            other_page=SHAREABLE_PAGE,
            opening=None if gains is None else opening(report, gains),
            first=first_screen(report),
            sections=sections,
        )
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(page.encode("utf-8", errors="replace"))
    return Path(path)


def render_section(section: Section) -> str:
    """The content of a section as HTML, without its heading."""
    return _environment().get_template(section.template).render(content=section.content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    environment.filters["group_starts"] = group_starts
    environment.filters["css_name"] = lambda text: re.sub(r"[^a-z0-9]+", "-", text.lower())
    return environment


def unbroken(heading: str) -> str:
    """A column's heading, which wraps between words, but not before a unit or an arrow, nor within "Real-All"."""
    heading = re.sub(r" (?=[(↑↓])", "\N{NO-BREAK SPACE}", heading)
    return re.sub(r"\b(Real|Syn)-All", "\\1\N{NON-BREAKING HYPHEN}All", heading)


def _read_mapping(path: Path, what: str) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read, expected {what} in JSON ({error})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a mapping, {what}")
    return content


def _read_results(path: Path) -> Mapping[str, Any]:
    require_file(path, "a run writes it after each setting that it has finished")
    results = _read_mapping(path, "the results of a run")
    if not isinstance(results.get("settings"), Mapping):
        raise ValueError(f"{path}: expected the key settings, the scores by setting")
    return results


def _configs(folder: Path, results: Mapping[str, Any], shareable: bool) -> list[tuple[str, str]]:
    """The configuration that AsynDGAN's generator was trained with, without what only says where files lie."""
    seed = next(iter(results.get("seeds") or []), 0)
    path = folder / f"seed_{seed}" / "asyndgan" / "gan" / "config.yaml"
    if not path.is_file():
        return []
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read, expected a configuration in YAML ({error})") from error
    kept = {key: value for key, value in (config or {}).items() if key not in _PLACES}
    text = yaml.safe_dump(without_paths(kept) if shareable else kept, sort_keys=False, width=100)
    return [(f"Configuration of AsynDGAN's training, seed {seed}", text)]
