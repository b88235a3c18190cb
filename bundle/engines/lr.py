"""Lengths and batches of trainings, and learning rates as functions of the steps done."""

from __future__ import annotations

__all__ = ["LinearDecay", "num_epochs", "share_of_batch"]


def num_epochs(num_steps: int, epoch_length: int) -> int:
    """
    Epochs of ``epoch_length`` steps that make ``num_steps``.

    Raises:
        ValueError: when one of them is not a whole number of at least 1, or the steps do not fill whole epochs: the
            schedules of the learning rate end at ``num_steps``.
    """
    for name, value in (("the number of steps", num_steps), ("the length of an epoch", epoch_length)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
    if num_steps % epoch_length:
        raise ValueError(f"{num_steps} steps do not fill epochs of {epoch_length}: choose a multiple")
    return num_steps // epoch_length


def share_of_batch(batch_size: int, num_processes: int) -> int:
    """
    What each of several processes takes of a batch, so that the step stays that of one process.

    Raises:
        ValueError: when the batch cannot be divided equally.
    """
    if batch_size % num_processes:
        raise ValueError(
            f"a batch of {batch_size} cannot be divided among {num_processes} processes: choose a multiple"
        )
    return batch_size // num_processes


class LinearDecay:
    """
    Constant, then linear to 0: the schedule of pix2pix (Isola et al. 2017) and of AsynDGAN's published code.

    For :class:`torch.optim.lr_scheduler.LambdaLR` at the server, and for :class:`bundle.site.Critic`.

    Args:
        num_steps: steps of the whole training.
        constant: share of the steps, in [0, 1], before the decay starts.
    """

    def __init__(self, num_steps: int, constant: float = 0.5) -> None:
        self.num_steps = num_steps
        self.constant = constant

    def __call__(self, steps_done: int) -> float:
        """Factor on the learning rate, in [0, 1], for the step after ``steps_done``."""
        start = self.constant * self.num_steps
        if steps_done <= start:
            return 1.0
        return max(0.0, (self.num_steps - steps_done) / (self.num_steps - start))
