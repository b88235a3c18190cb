"""Handlers that MONAI and Ignite lack; every one is named in a config."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from torch.nn.parallel import DistributedDataParallel

from bundle.files import save_torch, write_json

__all__ = ["CaseMetrics", "CaseMetricsSaver", "Progress", "TrainingRecord", "WeightsSaver", "called"]


class WeightsSaver:
    """
    Writes the weights of a network when a run has completed, and only then.

    Args:
        path: file to write: a ``state_dict`` on the CPU.
        network: the network; of one in ``DistributedDataParallel``, what that holds.
    """

    def __init__(self, path: str, network: torch.nn.Module) -> None:
        self.path = path
        self.network = network.module if isinstance(network, DistributedDataParallel) else network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        save_torch(self.path, {name: tensor.cpu() for name, tensor in self.network.state_dict().items()})


class TrainingRecord:
    """
    Writes what a finished training took as JSON, last of all: the file says that the stage is complete.

    The seconds go through the engine's own state, so those of a training that was interrupted add up. If the engine has
    them: ``seconds_by_part``, where they went (:class:`bundle.server.DistributedGanTrainer`; those of the engine's
    start and end are in none), and ``sites``: by site, how many steps it answered and how often it failed
    (:class:`bundle.server.roster.Roster`), with ``policy``: their release policies in words.

    Args:
        path: file to write.
        content: what else to write: callables are called at the end, with no arguments.
    """

    def __init__(self, path: str, content: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.content = {} if content is None else dict(content)

    def attach(self, engine: Engine) -> None:
        engine.state.seconds = 0.0
        engine.state.seconds_by_part = {}
        engine.state_dict_user_keys.extend(["seconds", "seconds_by_part"])
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self._since = time.monotonic()

    def _count(self, engine: Engine) -> None:
        now = time.monotonic()
        engine.state.seconds += now - self._since
        self._since = now
        output = engine.state.output
        parts = output[0].get("seconds", {}) if isinstance(output, list) else {}
        for part, seconds in parts.items():
            engine.state.seconds_by_part[part] = engine.state.seconds_by_part.get(part, 0.0) + seconds

    def __call__(self, engine: Engine) -> None:
        seconds, steps = engine.state.seconds, engine.state.iteration
        about = {"steps": steps, "seconds": round(seconds, 1), "seconds_per_step": round(seconds / max(steps, 1), 4)}
        if engine.state.seconds_by_part:
            about["seconds_by_part"] = {k: round(v, 2) for k, v in engine.state.seconds_by_part.items()}
        if hasattr(engine.state, "sites"):
            about["sites"] = engine.state.sites
            about["policy"] = _policies_said(engine.state.sites)
        write_json(self.path, about | called(self.content))


class Progress:
    """
    A bar on a terminal, log lines with the time that is left elsewhere; of an engine with sites also how many of them
    took part in the step, and who did not.

    Args:
        name: what the engine does.
        interval: iterations between two log lines.
        output_transform: from the engine's output to numbers by name that are shown; None for none.
    """

    def __init__(
        self, name: str, interval: int = 50, output_transform: Callable[[Any], Mapping[str, float]] | None = None
    ) -> None:
        self.name = name
        self.interval = interval
        self.output_transform = output_transform
        self.logger = logging.getLogger(f"bundle.{name.replace(' ', '_')}")

    def attach(self, engine: Engine) -> None:
        if sys.stderr.isatty():
            bar = ProgressBar(desc=self.name, persist=False)
            bar.attach(
                engine,
                output_transform=lambda output: self._shown(output) | _attendance(engine),
                event_name=Events.ITERATION_COMPLETED,
                closing_event_name=Events.COMPLETED,
            )
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log)

    def _shown(self, output: Any) -> dict[str, float]:
        return dict(self.output_transform(output)) if self.output_transform else {}

    def _start(self, engine: Engine) -> None:
        self._since, self._first = time.monotonic(), None

    def _log(self, engine: Engine) -> None:
        done, total = engine.state.iteration, engine.state.epoch_length * engine.state.max_epochs
        if self._first is None:  # known here only: a checkpoint may be loaded when the engine starts
            self._first = done - 1
        if done % self.interval and done != total:
            return
        each = (time.monotonic() - self._since) / (done - self._first)
        shown = self._shown(engine.state.output)
        values = "".join(f" · {name} {value:.4g}" for name, value in shown.items())
        values = "".join(f" · {text}" for text in _attendance(engine).values()) + values
        self.logger.info(
            "%s %d/%d · %.3g s each · %.0f s left%s", self.name, done, total, each, each * (total - done), values
        )


def _attendance(engine: Engine) -> dict[str, str]:
    sites = getattr(engine.state, "sites", {})
    away = [site for site, about in sites.items() if about["state"] != "present"]
    without = f", without {', '.join(away)}" if away else ""
    return {"sites": f"{len(sites) - len(away)}/{len(sites)} sites{without}"} if sites else {}


class CaseMetrics:
    """
    Keeps the metrics of an evaluation in ``engine.state.case_metrics``, per case and as a mean over cases.

    The metrics' handlers need ``save_details=True``. Values of several channels are averaged per case, unless the
    channels have names. A metric that a case does not have (the sensitivity where there is nothing to find) is NaN
    there: it is None, and left out of the mean.

    Args:
        metrics: names of the metrics to keep; None for all.
        groups: cases that are also averaged apart, by name of the group: whether an item of the batch belongs to it.
            Every metric is then there as ``METRIC/GROUP`` as well, unless the group is empty.
        channels: by name of a metric, how its channels are called: it is there as several metrics of those names.
    """

    def __init__(
        self,
        metrics: Sequence[str] | None = None,
        groups: Mapping[str, Callable[[Mapping], bool]] | None = None,
        channels: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.metrics = metrics
        self.channels = {} if channels is None else dict(channels)
        self.groups = {} if groups is None else dict(groups)
        self._cases: list[str] = []
        self._members: dict[str, set[str]] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self._cases = []
        self._members = {group: set() for group in self.groups}

    def _note(self, engine: Engine) -> None:
        for item in engine.state.batch:
            self._cases.append(item["case"])
            for group, belongs in self.groups.items():
                if belongs(item):
                    self._members[group].add(item["case"])

    def __call__(self, engine: Engine) -> None:
        found, grouped = {}, {}
        for name in self.metrics or engine.state.metrics:
            details = torch.as_tensor(engine.state.metric_details[name]).float().reshape(len(self._cases), -1)
            named = self.channels.get(name)
            columns = details.T if named else [details.mean(dim=1)]
            for label, values in zip(named or [name], columns, strict=True):
                scores = dict(zip(self._cases, values.tolist(), strict=True))
                found[label] = _summary(scores)
                for group, cases in self._members.items():
                    if cases:
                        of_group = {case: score for case, score in scores.items() if case in cases}
                        grouped[f"{label}/{group}"] = _summary(of_group)
        engine.state.case_metrics = found | grouped


class CaseMetricsSaver(CaseMetrics):
    """
    :class:`CaseMetrics` that writes them as JSON, a score that there is not as null.

    Args:
        path: file to write.
        metrics, groups, channels: see :class:`CaseMetrics`.
        content: what else to write.
    """

    def __init__(
        self,
        path: str,
        metrics: Sequence[str] | None = None,
        groups: Mapping[str, Callable[[Mapping], bool]] | None = None,
        channels: Mapping[str, Sequence[str]] | None = None,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(metrics, groups, channels)
        self.path = path
        self.content = {} if content is None else dict(content)

    def __call__(self, engine: Engine) -> None:
        super().__call__(engine)
        write_json(self.path, self.content | {"metrics": engine.state.case_metrics})


def _summary(scores: Mapping[str, float]) -> dict:
    finite = [value for value in scores.values() if math.isfinite(value)]
    return {
        "mean": sum(finite) / len(finite) if finite else None,
        "per_case": {case: value if math.isfinite(value) else None for case, value in scores.items()},
    }


def called(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values as they are, those of callables where they are such."""
    return {key: value() if callable(value) else value for key, value in content.items()}


def _policies_said(record: Mapping[str, Mapping[str, Any]]) -> str | None:
    """
    The release policies of a run's sites in a line: ``"guarded"``, or ``"A: guarded; B: private (...)"`` where they
    differ.

    Args:
        record: ``engine.state.sites``; sites that never said theirs are left out.
    """
    said = {site: about["policy"] for site, about in record.items() if "policy" in about}
    if len(set(said.values())) > 1:
        return "; ".join(f"{site}: {policy}" for site, policy in sorted(said.items()))
    return next(iter(said.values()), None)
