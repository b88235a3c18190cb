"""The synthetic data set, written as the generator makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events

from bundle.files import atomic_folder, write_json
from bundle.transforms import label_from_condition

__all__ = ["SyntheticWriter"]


class SyntheticWriter:
    """
    Ignite handler: writes what a generating evaluator makes as images, labels and a data list.

    Everything goes to a folder of a temporary name, which becomes ``folder`` when the evaluator has completed, so the
    data set is there whole or not at all. Labels are the classes of the conditions, in the label values of the real
    data (the first value of each group); images are stored with the generator's [-1, 1] as ``intensity_range``, and
    the data list says so, so that they are not scaled as raw images are.

    Every item says where its condition came from, and ``site_rule`` how many conditions came from where.

    The evaluator's batch has the items of :class:`bundle.server.ConditionBank`, its output ``pred`` the images
    C×H×W.

    Images are cases of their own, or the slices of one case: the toy's thousands of numbers would be as many files.

    Args:
        folder: folder of the data set: ``images/``, ``labels/``, ``datalist.json``.
        groups: label values by class name, as for :class:`bundle.transforms.GroupLabelsd`.
        modality: names of the images' channels.
        task: task of the data list.
        writer: writes an array C×H×W to a path, such as :func:`bundle.engines.write_nifti_slice`.
        suffix: suffix of the files.
        intensity_range: what -1 and 1 are stored as.
        reference: what made the images; kept in the data list.
        as_slices: whether all images of a site become one volume C×H×W×D, a slice each, in the order of the
            conditions; ``writer`` then gets volumes.
    """

    def __init__(
        self,
        folder: str,
        groups: Mapping[str, Sequence[int]],
        modality: Sequence[str],
        task: str,
        writer: Callable[[Path, np.ndarray], None],
        suffix: str = ".nii.gz",
        intensity_range: Sequence[float] = (-1.0, 1.0),
        reference: str = "",
        as_slices: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.groups = groups
        self.modality = tuple(modality)
        self.task = task
        self.writer = writer
        self.suffix = suffix
        self.intensity_range = tuple(float(value) for value in intensity_range)
        self.reference = reference
        self.as_slices = as_slices
        self._slices: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
        self._sources: Counter[str] = Counter()
        self._writing = ExitStack()
        self._items: list[dict] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._writing = ExitStack()  # drops what a run that failed was writing
        self._partial = self._writing.enter_context(atomic_folder(self.folder))
        for part in ("images", "labels"):
            (self._partial / part).mkdir()
        self._items, self._slices, self._sources = [], {}, Counter()

    def _write(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            classes = label_from_condition(torch.as_tensor(item["image"]), len(self.groups)).numpy()
            values = np.array([0] + [group[0] for group in self.groups.values()], dtype=np.uint8)
            image, label = self._stored(output["pred"]), values[classes]
            site, source = str(item["site"]), str(item["condition_source"])
            self._sources[source] += 1
            if self.as_slices:
                # all conditions of a site are from the same source
                self._slices.setdefault((site, source), []).append((image, label))
            else:
                self._write_case(site, source, f"{site}_{int(item['index']):05d}_{int(item['copy'])}", image, label)

    def _write_case(self, site: str, source: str, case: str, image: np.ndarray, label: np.ndarray) -> None:
        self.writer(self._partial / "images" / (case + self.suffix), image)
        self.writer(self._partial / "labels" / (case + self.suffix), label)
        self._items.append(
            {
                "image": f"images/{case}{self.suffix}",
                "label": f"labels/{case}{self.suffix}",
                "case": case,
                "patient": case,
                "site": site,
                "intensity_range": list(self.intensity_range),
                "condition_source": source,
            }
        )

    def _stored(self, image: torch.Tensor) -> np.ndarray:
        image = torch.as_tensor(image).float().cpu().numpy()
        low, high = self.intensity_range
        # [-1, 1] is stored bit for bit
        return image if (low, high) == (-1.0, 1.0) else low + (image + 1) * ((high - low) / 2)

    def _finish(self, engine: Engine) -> None:
        for (site, source), slices in self._slices.items():
            images, labels = zip(*slices, strict=True)
            self._write_case(site, source, site, np.stack(images, axis=-1), np.stack(labels, axis=-1))
        datalist = {
            "name": "synthetic",
            "task": self.task,
            "layout": "synthetic",
            "reference": self.reference,
            "modality": {str(i): name for i, name in enumerate(self.modality)},
            "labels": {"0": "background"} | {str(v): name for name, group in self.groups.items() for v in group[:1]},
            "site_rule": {
                "rule": "site that released the condition; 'bank' for those of the server's own bank",
                "condition_source": dict(sorted(self._sources.items())),
            },
            "numTraining": len(self._items),
            "numTest": 0,
            "training": self._items,
            "test": [],
        }
        write_json(self._partial / "datalist.json", datalist)
        self._writing.close()
        engine.logger.info("wrote %d synthetic images to %s", self._sources.total(), self.folder)
