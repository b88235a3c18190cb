"""An evaluator over files of which some may be unusable."""

from __future__ import annotations

import logging
import sys

from ignite.engine import Events
from monai.data import Dataset, list_data_collate
from monai.engines import Evaluator
from torch.utils.data import DataLoader

from brats_code.plain_errors import sentence

__all__ = ["run_each_file"]


def run_each_file(evaluator: Evaluator, dataset: Dataset, key: str, option: str) -> None:
    """
    Run an evaluator on every file by itself: one that cannot be used is named on stderr, and the others are done.

    Args:
        evaluator: whose postprocessing writes the outputs. Its metrics would be those of the last file only.
        dataset: an item for every file, with its path under ``key``.
        option: what gave the files, for the last words.

    Raises:
        SystemExit: at the end, when some file could not be used: exit status 1.
    """
    failed: list[str] = []
    reading: list[str] = []

    def note(error: BaseException) -> None:
        # an engine that raises cannot be used again, so it is told that all is well
        if not reading or not isinstance(error, Exception):  # the weights, say, or somebody's Ctrl-C
            raise error
        said, name = sentence(error), reading[0]
        print(f"error: {said if name in said else f'{name} cannot be used: {said}'}", file=sys.stderr, flush=True)
        failed.append(name)

    evaluator.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: note(error))
    # it says of every file that a run begins and ends, and repeats errors
    evaluator.logger.setLevel(logging.CRITICAL)
    evaluator.state.epoch_length = 1
    for place, item in enumerate(dataset.data):
        reading.clear()
        name = item[key] if isinstance(item[key], str) else str(item[key][0])
        with evaluator.add_event_handler(Events.EPOCH_STARTED, reading.append, name):
            # torch's own loader: MONAI's sets the generator back that noise is drawn from
            evaluator.data_loader = DataLoader(dataset[place : place + 1], collate_fn=list_data_collate)
            evaluator.run()
    if failed:
        raise SystemExit(f"{len(failed)} of {len(dataset)} files of {option} could not be used")
