"""The way out of a site for the weights of a teacher whose updates got noise: once, and always the same."""

from __future__ import annotations

import numpy as np
import torch

from bundle.files import atomic_path
from bundle.site.release.digests import tensor_digest
from bundle.site.release.gate import ReleaseGate
from bundle.site.release.released import TEACHER, Taught
from bundle.site.release.spending import Noised

__all__ = ["begin_teaching", "release_teacher", "weights_that_left"]


def begin_teaching(gate: ReleaseGate) -> Noised:
    """
    Take of ε what the updates of a site's teacher cost, before the first of them is made; nothing where the ledger has
    them already, of this training: then they are made again, and have the bits that they had.

    Raises:
        ReleaseRefused: when ε does not allow them.
        LedgerError, OSError: when the ledger cannot be written.
    """
    if objection := gate.spending.prepare_teacher(gate.num_steps):
        gate.refuse("epsilon is spent", objection, final=True)
    return gate.spending.teach()


def weights_that_left(gate: ReleaseGate) -> torch.Tensor | None:
    """
    The bytes that left in this training, from the file beside the ledger; None where none have, or there is no ledger.
    They are given again as they are, and nothing is computed from images: what came of that, even that it is something
    else, would be an answer that no noise hides.

    Raises:
        ReleaseRefused: when they have left, and the file is gone or another.
    """
    made = gate.spending.taught
    path = None if made is None else gate.beside(_ending(made))
    if made is None or not made.weights or path is None:
        return None
    packed = torch.from_numpy(np.fromfile(path, dtype=np.uint8)) if path.is_file() else torch.empty(0)
    if tensor_digest(packed) != made.weights:
        words = (
            f"weights of its teacher have left, and {path} has them no more: bring the file back, or have a training "
            "of another seed, whose teacher counts anew"
        )
        gate.refuse("another teacher", words, final=True, sent="weights of its teacher have left, and are lost there")
    return packed


def release_teacher(gate: ReleaseGate, packed: torch.Tensor) -> None:
    """
    Write down weights that are about to leave.

    Args:
        gate: of the site.
        packed: their bytes, uint8.

    Raises:
        ReleaseRefused: when others have left that the same updates made: noise hides one outcome, and not two.
        RuntimeError: when the ledger has no updates that made them.
        LedgerError, OSError: when the ledger cannot be written.
    """
    made, digest = gate.spending.taught, tensor_digest(packed)
    if made is None:
        raise RuntimeError(f"site {gate.site}: weights of a teacher that its ledger does not have")
    if not made.weights and (path := gate.beside(_ending(made))) is not None:
        with atomic_path(path) as temporary:
            packed.numpy().tofile(temporary)
    if made.weights not in ("", digest):
        gate.refuse(
            "another teacher",
            "other weights of its teacher have left than it has now, by the same updates: its images, settings of the "
            "teacher or the machine have changed since. Have them set back, or ask for a training of another seed, "
            "whose teacher counts anew",
        )
    gate.record(TEACHER, {"weights of a teacher": packed}, first=made.first, weights=digest)
    made.weights = digest


def _ending(made: Taught) -> str:
    return f"teacher_{made.first}"
