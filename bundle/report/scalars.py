"""Scalars of a run, read back from its TensorBoard event files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]


def read_scalars(log_dir: str | os.PathLike[str]) -> dict[str, Curve]:
    """Every scalar in the event files directly in ``log_dir``, whole (no subsampling).

    A resumed run leaves several files, and repeats the steps between its last checkpoint and the moment
    it was killed: for a step that occurs twice, the value written later (by wall time) counts. The
    truncated end of a file whose writer was killed is ignored.

    Args:
        log_dir: folder that holds ``events.out.tfevents.*``.

    Returns:
        ``{tag: (steps, values)}``, tags sorted; steps int64, strictly increasing; values float64 of the
        same length, not necessarily finite. Empty where the folder holds no event file.

    Raises:
        FileNotFoundError: ``log_dir`` is not a folder.
    """
    folder = Path(log_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of TensorBoard events: {folder}")
    # Imported late: it takes about a second, and tables and pages do without.
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    latest: dict[str, dict[int, tuple[float, float]]] = {}
    for file in sorted(folder.glob("*tfevents*")):
        # One accumulator per file: given the folder it would read files in order of their names, and drop
        # steps by its own rules on restarts.
        events = EventAccumulator(str(file), size_guidance={SCALARS: 0}, purge_orphaned_data=False).Reload()
        for tag in events.Tags()[SCALARS]:
            kept = latest.setdefault(tag, {})
            for event in events.Scalars(tag):
                if event.step not in kept or event.wall_time >= kept[event.step][0]:
                    kept[event.step] = (event.wall_time, event.value)
    curves = {}
    for tag in sorted(latest):
        steps = sorted(latest[tag])
        curves[tag] = (np.array(steps, dtype=np.int64), np.array([latest[tag][step][1] for step in steps], dtype=float))
    return curves
