"""What a packed bundle says of itself, from the files of the run that its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import packages_distributions, version
from typing import Any

import yaml

from bundle.settings import trains_generator
from bundle.sharing.configs import TEMPLATES
from bundle.sharing.derive import packed_label_groups, resolved
from bundle.sharing.errors import PackError
from bundle.sharing.run_files import RunFiles
from bundle.sheet.training_data import known_of

__all__ = ["SCHEMA", "about", "describe", "generator_figures", "package_versions", "performance"]

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


def about(kind: str) -> Any:
    """A part of ``templates/about.yaml``."""
    return yaml.safe_load((TEMPLATES / "about.yaml").read_text(encoding="utf-8"))[kind]


def describe(kind: str, run: RunFiles, data_name: str | None = None) -> dict[str, Any]:
    """
    All fields that the texts of a bundle of a kind may hold, and the texts with them filled in.

    Args:
        kind: a part of ``templates/about.yaml``.
        run: the files of the run.
        data_name: of the real data, in the place of its data list's name.

    Raises:
        PackError: a file of the run is missing or lacks something; it is named.
    """
    config = run.config
    plain = {
        key: resolved(config, config[key])
        for key in ("image_size", "image_channels", "condition_channels", "num_classes", "modalities", "label_groups")
    }
    classes = ["background", *plain["label_groups"]]
    fields = {
        **plain,
        "modalities": ", ".join(plain["modalities"]),
        "classes": ", ".join(classes[1:]),
        "class_names": classes,
        "num_outputs": len(classes),
        "indexed_classes": ", ".join(f"{index}: {name}" for index, name in enumerate(classes)),
        "condition_names": ", ".join(condition_names(config)),
        "label_values": ", ".join(
            f"{'/'.join(map(str, values))}: {name}"
            for name, values in packed_label_groups(plain["label_groups"]).items()
        ),
        "data": f"'{data_name or run.datalist['name']}'",
        "layout": None if data_name else run.datalist.get("layout"),
        **_training(kind, run),
    }
    fields["trained_on"] = _trained_on(kind, run, fields)
    fields["data_paragraph"] = _data_paragraph(kind, fields)
    texts = about(kind)
    fields |= {key: value.format(**fields) if isinstance(value, str) else value for key, value in texts.items()}
    return fields


def condition_names(config: Mapping[str, Any]) -> list[str]:
    """Names of the condition's channels."""
    names = list(config["label_groups"])
    return names + ["outline"] * (resolved(config, config["condition_channels"]) - len(names))


def _training(kind: str, run: RunFiles) -> dict[str, Any]:
    config = run.config
    if kind.startswith("generator"):
        return {
            "lr": config["lr"],
            "noise": (
                f"\nThe generator sees {noise} channels of noise beside the condition: `--seed` draws another image."
                if (noise := config.get("generator_noise", 0))
                else ""
            ),
        }
    loss = config["segmenter_loss_def"]
    return {
        "training_images": run.recorded("training_images"),
        "segmenter_lr": config["segmenter_lr"],
        "segmenter_steps": run.recorded("steps"),
        "segmenter_batch_size": config["segmenter_batch_size"],
        "loss": f"MONAI's {loss['_target_'].rpartition('.')[2]}",
    }


def _trained_on(kind: str, run: RunFiles, fields: Mapping[str, Any]) -> str:
    """For segmenters "trained on ...", for generators "trained ..."."""
    setting, _, site = run.config["setting"].partition("/")
    data = fields["data"]
    if setting == "asyndgan":
        sites = run.sites("record" if kind.startswith("generator") else "sites")
        against = f"against discriminators at {len(sites)} sites ({', '.join(sites)}) of {data} (AsynDGAN)"
    else:
        against = f"on the images of {'the site ' + site if site else 'all sites'} of {data}, in one place"
    if kind.startswith("generator"):
        return against
    number = fields["training_images"]
    if trains_generator(run.config["setting"]):
        return f"{number} synthetic images and no real one; the generator that drew them was trained {against}"
    return f"{number} real images of {'the site ' + site if site else 'all sites'} of {data}"


def _data_paragraph(kind: str, fields: Mapping[str, Any]) -> str:
    source = known_of(fields["layout"]).get("source")
    where = f"{fields['data']}" + (f": {source}." if source else ".")
    if kind.startswith("generator"):
        return f"The sites' discriminators saw the real training images of {where}"
    return f"{where} The network was trained on {fields['trained_on']}. It is scored on held-out real cases."


def performance(run: RunFiles, fields: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """
    Evaluation figures of a segmenter for ``metadata.json``, and a paragraph with a table for the page.

    Raises:
        PackError: no scores among the files of the run.
    """
    scores = run.json("metrics")
    metrics, units = scores["metrics"], scores.get("units", {})
    means, rows = {}, []
    for name, score in metrics.items():
        mean = score["mean"] if isinstance(score, Mapping) else score
        if mean is None:
            continue
        label = f"{name} ({units[name]})" if name in units else name
        means[label] = round(mean, 4)
        cases = [value for value in score.get("per_case", {}).values() if value is not None]
        spread = f"{min(cases):.3g} | {max(cases):.3g} | {len(cases)}" if cases else "| |"
        rows.append(f"| {label} | {mean:.3g} | {spread} |")
    if not means:
        raise PackError(f"{run.path('metrics')}: expected scores under 'metrics', found none")
    count = max(len(score.get("per_case", {})) for score in metrics.values())
    what = f"{count} held-out cases of {fields['data']} that no training has seen"
    table = "\n".join(["| metric | mean | lowest | highest | cases |", "| --- | --- | --- | --- | --- |", *rows])
    text = (
        f"On {what} (seed {scores.get('seed', run.config['seed'])}):\n\n{table}\n\n"
        "One training with one seed; the metrics are defined in the project that this bundle comes from."
    )
    return {"data": what, "seed": scores.get("seed", run.config["seed"]), **means}, text


def generator_figures(run: RunFiles, sheet: Mapping[str, Any], data: str) -> dict[str, Any]:
    """
    Evaluation figures of a generator for ``metadata.json``, from its data sheet.

    Args:
        run: the files of the run.
        sheet: its data sheet.
        data: what the real data are called.

    Raises:
        PackError: neither a segmenter that learned from its images was scored, nor the images themselves.
    """
    if scores := sheet["downstream"]:
        count = max(of["cases"] for of in scores.values())
        what = (
            f"{count} held-out cases of {data} that no training has seen; the scores are those of a segmenter that "
            "was trained on the generator's images alone"
        )
        means = {f"{m} ({of['unit']})" if of["unit"] else m: of["mean"] for m, of in scores.items()}
    elif scores := sheet["quality"]:
        what = f"synthetic images beside the real ones of {data}"
        means = {measure: of["value"] for measure, of in scores.items()}
    else:
        raise PackError(f"{run.path('metrics')}: expected scores under 'metrics', or a quality/metrics.json beside it")
    return {
        "data": what,
        "seed": sheet["made"]["seed"],
        **{m: round(value, 4) for m, value in means.items() if value is not None},
    }


def package_versions(names: list[str], modules: set[str]) -> dict[str, str]:
    """
    Versions that run here of packages, and of those that packed code imports.

    Args:
        names: of distributions.
        modules: top-level names of modules.
    """
    own = {"monai", "torch", "numpy"}
    known = packages_distributions() if modules - own else {}
    found = {known[module][0] for module in modules - own if module in known}
    return {name: version(name) for name in sorted({*names, *found}, key=str.lower)}
