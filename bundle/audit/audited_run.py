"""What an audit attacks: a training as the configs make it, and as a run left it."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from bundle.audit.candidates import Candidates, gather
from bundle.audit.fresh_sites import renew_gate
from bundle.audit.scores import Slice
from bundle.composition import INPUT_DIGESTS
from bundle.data import complete, items_by_site
from bundle.engines import SeededInferer
from bundle.evaluation import synthesize
from bundle.files import digest, require_file
from bundle.installation import config_dir
from bundle.networks import read_weights
from bundle.seeding import Draw, derive_seed
from bundle.workflows import DistributedGANWorkflow

__all__ = ["Audited", "audited"]


@dataclass(frozen=True)
class Audited:
    """
    What is audited, on the CPU unless the configs say otherwise.

    Args:
        workflow: the initialized :class:`bundle.workflows.DistributedGANWorkflow`; it is not run.
        sites: :class:`bundle.site.Site` by name. Their ledgers are not those of the run.
        generator: what generates: the average of G's weights where there is one.
        untrained_generator, untrained_discriminators: the same, and those of the sites by name, with the weights that
            the training began with.
        trained: the last step that the sites' discriminators have seen; 0 for untrained ones.
    """

    workflow: Any
    sites: dict[str, Any]
    generator: Any
    untrained_generator: Any
    untrained_discriminators: dict[str, Any]
    trained: int

    @property
    def run(self) -> Path:
        """The folder of this seed and setting."""
        return Path(self.workflow.make("output_dir"))

    @property
    def policies(self) -> dict[str, str]:
        """The release policies in words, by site."""
        return {name: site.policy.describe() for name, site in self.sites.items()}

    def generate(self, network: Any = None) -> Callable[[Any], Any]:
        """
        Conditions N×X×H×W uint8 to images N×C×H×W float32 in [-1, 1], by a generator in evaluation mode, every image
        from the same noise where there is any.

        Args:
            network: None for ``generator``.

        Raises:
            ValueError: for a generator that sees teachers' images: there are none of held-out patients.
        """
        if self.workflow.make("generator_guide"):
            raise ValueError(
                "generator_guide: this generator draws where there is a teacher's image, and of held-out patients "
                "there is none: whether it tells members is not known"
            )
        network, inferer = (self.generator if network is None else network).eval(), SeededInferer()
        device, noise = self.workflow.make("device"), self.workflow.make("generator_noise")
        seed = derive_seed(self.workflow.make("seed"), "noise", "audit")

        def generate(conditions: Any) -> Any:
            with torch.no_grad():
                return synthesize(conditions, network, inferer, [seed] * len(conditions) if noise else None, device)

        return generate

    def slices(self) -> Iterator[Any]:
        """
        Every sample of every site once, augmented as in training by draws of its own
        (:class:`bundle.audit.scores.Slice`).
        """
        for name, site in self.sites.items():
            for index in range(len(site.samples)):
                sample = site.samples[Draw(index, derive_seed(self.workflow.make("seed"), "audit", name, index))]
                yield Slice(str(sample["case"]), sample["condition"], sample["image"])

    def candidates(self, per_patient: int | None = None) -> Any:
        """
        The training slices of the sites and, prepared alike, those of held-out patients of the same hospitals, as
        :class:`bundle.audit.candidates.Candidates`.

        Args:
            per_patient: slices of a patient at most, evenly spaced; None: all.

        Raises:
            ValueError: where the data list holds out no patient of a site.
        """
        make = self.workflow.make
        datalist = make("datalist")
        items = items_by_site(datalist, make("setting"))
        hospitals = {holder: {item["site"] for item in found} for holder, found in items.items()}
        held_out = {holder: [i for i in datalist.test if i.get("site") in hospitals[holder]] for holder in items}
        held_out = {holder: found for holder, found in held_out.items() if found}
        if not held_out:
            raise ValueError(f"{make('dataset_dir')}: test: expected held-out cases of the sites, got none")
        samples = make("samples_def")
        outside = {name: samples(data=found, name=f"held-out cases of {name}") for name, found in held_out.items()}
        return Candidates.joined(
            [gather(make("site_samples"), items, True, per_patient), gather(outside, held_out, False, per_patient)]
        )


def audited(
    files: Sequence[str],
    dataset_dir: str,
    overrides: Mapping[str, Any],
    seed: int = 0,
    run_dir: str | None = None,
    setting: str = "asyndgan",
) -> Audited:
    """
    Make a training; where there is a ``run_dir``, with the networks of its checkpoint. Nothing is run.

    Args:
        files: configs of a training: stage, task, profile, further ones.
        dataset_dir: folder of the data list.
        overrides: values for keys of the configs, those of the training.
        seed: of the training, and of what an audit draws.
        run_dir: folder of a run, for its networks; None for untrained ones.
        setting: ``asyndgan``, ``syn_all`` or ``syn_subset/SITE``.

    Raises:
        FileNotFoundError: when ``run_dir`` holds no training of that seed and setting.
        ValueError: when the run is of other data, networks or sites than the configs'.
        bundle.site.release.ReleaseRefused: when a site's release policy forbids the loss of the configs.
        bundle.workflows.ConfigError, bundle.data.DataError: see there.
    """
    given = {"device": "cpu", "setting": setting, "seed": seed}
    if run_dir is not None:
        given["run_dir"] = str(run_dir)
    # what an audit asks is no release: nothing of it comes into the ledgers of a run, or counts there
    with tempfile.TemporaryDirectory(prefix="audit-") as ledgers:
        own: dict[str, Any] = given | dict(overrides) | {"release_dir": ledgers}
        workflow = DistributedGANWorkflow(
            list(files),
            bundle_root=str(config_dir().parent),
            dataset_dir=dataset_dir,
            logging_file=False,  # the command's stays as it is
            **own,
        )
        workflow.initialize()
        complete(workflow.make("datalist"), "an audit")
        # but label maps are deformed as they were in the run
        for secret in Path(workflow.make("output_dir"), "gan/releases").glob("*.secret"):
            shutil.copy(secret, ledgers)
        sites = {site.name: site for site in workflow.make("sites")}
        for site in sites.values():
            renew_gate(site, workflow.make("num_steps"))
    found = Audited(
        workflow,
        sites,
        workflow.make("average"),
        copy.deepcopy(workflow.make("average")),
        {name: copy.deepcopy(site.critic.discriminator) for name, site in sites.items()},
        0,
    )
    if run_dir is None:
        return found
    _check_data(found.run / "gan/config.yaml", Path(dataset_dir) / "datalist.json")
    _load(found, found.run / "gan/checkpoints/latest.pt")
    return Audited(**vars(found) | {"trained": max(site.trained for site in sites.values())})


def _check_data(config: Path, datalist: Path) -> None:
    """Refuse a run that was trained with another data list: its members would be others."""
    why = "--run_dir, --seed and --setting name a training, see asyndgan run"
    kept = yaml.safe_load(Path(require_file(config, why)).read_text(encoding="utf-8"))
    if kept.get(INPUT_DIGESTS, {}).get(datalist.name) != digest(datalist):
        raise ValueError(f"{config}: {INPUT_DIGESTS}: expected the digest of {datalist}, so it was another data list")


def _load(found: Audited, path: Path) -> None:
    state = read_weights(require_file(path, "a training writes it"), "expected a checkpoint of a training")
    try:
        found.generator.load_state_dict(state["average"])
        found.workflow.make("federation_def").load_state_dict(state["federation"])
    except (KeyError, ValueError, RuntimeError) as error:
        what = "--task, --profile, --config and --set"
        raise ValueError(f"{path} is of other networks or sites than {what} make: {error}") from error
