"""All settings of an experiment, stage after stage, and the table of what they gave."""

from __future__ import annotations

import gc
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bundle.composition import stage_files, task_files
from bundle.config_files import ConfigFiles
from bundle.data import (
    check_has,
    check_setting,
    complete,
    keep_conditions_by_site,
    load_datalist,
    members_by_site,
)
from bundle.files import below, require_file, write_json
from bundle.installation import config_dir
from bundle.report import compute_statistics
from bundle.settings import GROUPS, KINDS, all_settings, generates, kind_of, needed_before, trains_generator
from bundle.site.release import policies_by_site
from bundle.workflows.collected import Collected, hardware
from bundle.workflows.config_checks import EXPERIMENT_KEYS, ConfigError
from bundle.workflows.workflow import CheckedWorkflow, DistributedGANWorkflow, QualityWorkflow, SegmentationWorkflow

__all__ = ["ATTACKS_FILE", "STAGES", "Experiment", "Stages"]

logger = logging.getLogger(__name__)

STAGES: dict[str, type[CheckedWorkflow]] = {
    "train": DistributedGANWorkflow,
    "generate": DistributedGANWorkflow,
    "segment": SegmentationWorkflow,
    "evaluate": SegmentationWorkflow,
    "features": SegmentationWorkflow,  # once: what it needs is neither a setting's nor a seed's
    "quality": QualityWorkflow,
}


ATTACKS_FILE = "attacks.json"
"""In the folder of a run: what audits of its segmenters found."""


@dataclass
class Stages:
    """
    The stages of a task's settings, each by the workflow of its config.

    Args:
        task: name of the task's config, such as ``brats``, or the path of a YAML file that declares one.
        dataset_dir: folder of ``datalist.json``.
        profile: name of the config with the sizes, such as ``small``; None for the one that the task names, if it does.
        run_dir: folder of the run; None for ``runs/TASK-PROFILE`` below the current folder.
        config_files: further configs, after those of task and profile.
        overrides: values for keys of the configs, as on the command line of ``monai.bundle run``.
        config_dir: folder of the configs; None for those of this package.

    Raises:
        ConfigError: a profile for a task that has sizes of its own, or a task that does not say what it consists of.
    """

    task: str
    dataset_dir: str
    profile: str | None = None
    run_dir: str | None = None
    config_files: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    config_dir: str | None = None

    def __post_init__(self) -> None:
        self.config_dir = self.config_dir or str(config_dir())
        declared = self._declared()
        self.name, own = declared["task"], declared["profile"]
        if own is None and self.profile is not None:
            raise ConfigError(f"the task {self.name} has sizes of its own and takes no profile, got {self.profile!r}")
        self.profile = self.profile or own
        name = "-".join([self.name, *([Path(self.profile).stem] if self.profile else [])])
        self.run_dir = self.run_dir or str(Path.cwd() / "runs" / name)
        self.stages, self.kinds = tuple(declared["stages"]), tuple(declared["settings"])
        if unknown := [stage for stage in self.stages if stage not in STAGES]:
            raise ConfigError(f"stages: {unknown[0]!r} is none of {', '.join(STAGES)}")

    def _declared(self) -> dict[str, Any]:
        """What the task says of its experiments, unless a further config or an override does."""
        files = task_files(self.task, self.config_files, self.config_dir)
        declared = {**ConfigFiles.load_config_files(files), **self.overrides}
        if missing := sorted((EXPERIMENT_KEYS | {"task"}) - declared.keys()):
            raise ConfigError(f"task {self.task}: expected the key {', '.join(missing)}, of an experiment")
        return declared

    def workflow(self, stage: str, setting: str, seed: int) -> CheckedWorkflow:
        """A stage's workflow, initialized."""
        files = stage_files(stage, self.task, self.profile, self.config_files, self.config_dir)
        given: dict[str, Any] = {
            "bundle_root": str(Path(self.config_dir).parent),
            "dataset_dir": str(self.dataset_dir),
            "run_dir": str(self.run_dir),
            "setting": setting,
            "seed": seed,
        }
        if twice := sorted(given.keys() & self.overrides.keys()):
            raise ConfigError(f"{', '.join(twice)}: the experiment sets it for every stage, it cannot be overridden")
        workflow = STAGES[stage](config_file=files, **given, **self.overrides)
        workflow.initialize()
        return workflow

    def output_dir(self, setting: str, seed: int) -> Path:
        return Path(below(self.run_dir, f"seed_{seed}", setting))

    def run_stage(self, stage: str, setting: str, seed: int) -> None:
        """Run a stage, unless it is finished."""
        workflow = self.workflow(stage, setting, seed)
        workflow.run()
        workflow.finalize()
        # a workflow's objects refer to each other in circles, and hold the data in memory
        del workflow
        gc.collect()


@dataclass
class Experiment(Stages):
    """
    The settings of a task, each trained and scored for every seed, by the same workflows that run the stages alone.

    What is finished is not computed again: every stage knows its own outputs.

    Args:
        task, dataset_dir, profile, run_dir, config_files, overrides, config_dir: see :class:`Stages`.
        seeds: seeds of the runs; generator and segmenter share them.
        settings: names of settings, of kinds, ``real_subset`` for that of every site, or of groups of kinds
            (:data:`bundle.settings.GROUPS`). None for all of the task's. Synthetic images that a setting takes from
            others are made first.
        command: the command line that reproduces the run, for the report.
        started: when the command began, by ``time.monotonic()``: what it imports and checks belongs to the run.
    """

    seeds: Sequence[int] = (0,)
    settings: Sequence[str] | None = None
    command: str = ""
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        super().__post_init__()
        modalities = self.workflow("generate", "asyndgan", self.seeds[0]).make("modalities")
        # held-out cases are first read after hours of training: decode everything now
        self.datalist = load_datalist(self.dataset_dir, modalities, deep=True)
        if not self.datalist.test and "evaluate" in self.stages:
            logger.warning("%s: the list 'test' is empty, so no segmenter is scored", self.dataset_dir)
        sites = self.datalist.sites
        asked = [kind for name in self.settings or self.kinds for kind in GROUPS.get(name, (name,))]
        found = [one for name in asked for one in (all_settings([name], sites) if name in KINDS else [name])]
        found = [check_setting(setting, sites) for setting in dict.fromkeys(found)]
        for setting in found:
            check_has(self.datalist, setting)
        if "quality" in self.stages and any(trains_generator(setting) for setting in found):
            complete(self.datalist, "the stage quality (stages)")
        idle = [setting for setting in found if "segment" not in self.stages and not generates(setting)]
        if idle:
            raise ConfigError(
                f"settings: {idle[0]} trains a segmenter alone, and the task {self.name} has no stage segment"
            )
        needed = [source for setting in found for source in needed_before(setting, sites)]
        self.sources = [setting for setting in dict.fromkeys(needed) if setting not in found]
        """Settings whose synthetic images others take, and whose own segmenters nobody asked for."""
        # what others take is made before they need it
        self.settings = sorted(found, key=lambda setting: bool(needed_before(setting, sites)))

    def _all_settings(self) -> list[str]:
        """Of every kind: what was finished at another start belongs to the run."""
        return all_settings(KINDS, self.datalist.sites)

    def run(self) -> dict:
        """Run what is not finished; ``results.json`` is written anew after every setting. Returns its content."""
        self._check_stages()
        self._check_held_out()
        self._check_sites()
        try:
            for seed in self.seeds:
                everything = [*self.sources, *self.settings]
                for number, setting in enumerate(everything, start=1):
                    logger.info("seed %d, setting %d of %d: %s", seed, number, len(everything), setting)
                    for stage in STAGES:
                        if self._belongs(stage, setting):
                            self.run_stage(stage, setting, seed)
                    self.write_results()
        except KeyboardInterrupt:
            # the time until here belongs to the run
            self.write_results()
            raise
        return self.write_results()

    def _check_held_out(self) -> None:
        """Prepare every held-out case as its evaluation will, before the hours of training that come first."""
        if not any(self._belongs("evaluate", setting) for setting in self.settings):
            return
        for setting in self.settings:
            for seed in self.seeds:
                evaluation = self.workflow("evaluate", setting, seed)
                if not evaluation.finished:
                    return evaluation.make("dataset").check()

    def _check_stages(self) -> None:
        """What any stage refuses of its configuration it refuses now, and not after the hours of those before it."""
        for stage in self.stages:
            self.workflow(stage, self.settings[0], self.seeds[0]).check_networks()

    def _check_sites(self) -> None:
        """Make the sites before the hours of training that come first: one without enough samples is refused."""
        trained = [setting for setting in [*self.sources, *self.settings] if trains_generator(setting)]
        if not trained:
            return
        for setting in trained:
            self._check_conditions(setting)
        self._check_teachers()
        # sites that have enough for themselves have enough together
        workflow = self.workflow("train", trained[-1], self.seeds[0])
        if not workflow.finished:
            workflow.make("sites")
        del workflow
        gc.collect()

    def _check_conditions(self, setting: str) -> None:
        """There will be something to generate from."""
        bank = self.workflow("generate", setting, self.seeds[0]).make("condition_bank")
        if bank is not None:
            require_file(bank, "condition_bank names it; asyndgan bank makes one")
            return
        workflow = self.workflow("train", setting, self.seeds[0])
        keep = keep_conditions_by_site(workflow.make("keep_conditions"), self.datalist, setting)
        members = members_by_site(self.datalist, setting)
        policies = policies_by_site(workflow.make("release_policy"), self.datalist.sites, members)
        if all(policy.conditions == "public" for policy in policies.values()):
            raise ConfigError(
                f"setting {setting}: the release policy lets no conditions out. Name some of the server's own "
                "(public_conditions: FILE, asyndgan bank makes one)"
            )
        if not any(keep[site] and policy.conditions != "public" for site, policy in policies.items()):
            raise ConfigError(
                f"setting {setting}: nothing could be generated. Set keep_conditions: true for some site"
                f"{' (syn_all: for all)' if setting == 'syn_all' else ''}, or name a bank of the server's own "
                "(condition_bank: FILE, asyndgan bank makes one)"
            )

    def _check_teachers(self) -> None:
        """There will be something to take from them."""
        taught = {f"setting {setting}": setting for setting in self.settings if kind_of(setting).paints == "teachers"}
        trained = [setting for setting in self.settings if trains_generator(setting)]
        if trained and self.workflow("train", trained[0], self.seeds[0]).make("generator_guide"):
            taught |= {f"generator_guide, setting {setting}": setting for setting in trained}
        if not taught:
            return
        for said in taught:
            complete(self.datalist, said)
        said, setting = next(iter(taught.items()))
        policies = policies_by_site(
            self.workflow("train", "asyndgan", self.seeds[0]).make("release_policy"), self.datalist.sites
        )
        without = [site for site, policy in policies.items() if not policy.teacher]
        if without:
            raise ConfigError(
                f"{said}: no teacher at {', '.join(without)} (release_policy: out_of_fold, or one with teacher: true)"
            )
        bank = self.workflow("generate", setting, self.seeds[0]).make("condition_bank")
        if bank is not None and not any(policy.noises_updates for policy in policies.values()):
            raise ConfigError(
                f"{said}: no teacher has predicted images of the conditions in {bank}: those of these "
                "sites let out images of their own conditions alone. Leave out condition_bank and public_conditions"
            )

    def _belongs(self, stage: str, setting: str) -> bool:
        if stage not in self.stages:
            return False
        if stage == "generate":
            return generates(setting)
        if stage == "train":
            return trains_generator(setting)
        if setting in self.sources:
            return False
        if stage in ("features", "quality"):
            return trains_generator(setting) and ("features" not in self.stages or bool(self.datalist.test))
        return stage == "segment" or bool(self.datalist.test)

    def write_results(self) -> dict:
        """Collect what is finished into ``results.json`` (see docs for its format) and return it."""
        # what an earlier start has finished belongs to the run as well
        found = Collected(self.output_dir, self._all_settings(), self.seeds)
        results: dict[str, Any] = {
            "task": self.name,
            "name": self.datalist.name,
            "profile": self.profile,
            "seeds": list(self.seeds),
            "training_cases": {site: len(self.datalist.site_items(site)) for site in self.datalist.sites},
            "test_cases": len(self.datalist.test),
            # hospitals name patients by themselves: two may have a "1"
            "test_patients": {i["case"]: f"{i.get('site') or ''}/{i['patient']}" for i in self.datalist.test},
            "modalities": self._modalities(),
            "losses": None,
            "policy": None,
            "sites": None,
            "train": found.training(),
            "settings": {setting: found.scores(setting) for setting in found.settings},
            # of the synthetic images themselves; the cases are the sites
            "quality": {setting: found.quality(setting) for setting in found.settings},
            "units": found.units(),
            "wire": None,
            "averaging": found.averaging() or None,
            "attacks": self._attacks(),
            "hardware": hardware(),
            "command": self.command,
        }
        for block in ("settings", "quality"):
            results[block] = {setting: scores for setting, scores in results[block].items() if scores}
        asyndgan = found.records("asyndgan", "gan/record.json")
        if asyndgan:
            results |= {key: asyndgan[0].get(key) for key in ("losses", "policy", "wire", "sites")}
        results["statistics"] = compute_statistics(results) or None
        results["seconds"] = found.seconds()
        results["wall_seconds"] = self._wall_seconds()
        results = {key: value for key, value in results.items() if value is not None}
        write_json(Path(self.run_dir) / "results.json", results)
        return results

    def with_time_until_now(self, results: Mapping[str, Any]) -> dict:
        """The results with the time of the whole run until now, written into ``results.json``."""
        seconds = self._wall_seconds()
        updated = dict(results) | ({} if seconds is None else {"wall_seconds": seconds})
        write_json(Path(self.run_dir) / "results.json", updated)
        return updated

    def _modalities(self) -> dict | None:
        """Which of the run's every site has, where some site lacks one."""
        own = {site: list(self.datalist.modalities_of(site)) for site in self.datalist.sites}
        whole = list(self.datalist.asked)
        return {"all": whole, "by_site": own} if any(len(has) < len(whole) for has in own.values()) else None

    def _attacks(self) -> dict | None:
        """What audits of this run found, by setting."""
        path = Path(self.run_dir) / ATTACKS_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _wall_seconds(self) -> float | None:
        """
        Time of this start until now and of those before it, each up to what it wrote last; None where one did not say.
        """
        if self._earlier_seconds is None:
            return None
        return round(self._earlier_seconds + time.monotonic() - self.started, 1)

    @cached_property
    def _earlier_seconds(self) -> float | None:
        path = Path(self.run_dir) / "results.json"
        return json.loads(path.read_text(encoding="utf-8")).get("wall_seconds") if path.exists() else 0.0
