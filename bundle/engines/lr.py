"""Learning rate schedules as functions of the steps done."""

from __future__ import annotations

__all__ = ["LinearDecay"]


class LinearDecay:
    """
    Constant, then linear to 0: the schedule of pix2pix (Isola et al. 2017) and of AsynDGAN's published code.

    For :class:`torch.optim.lr_scheduler.LambdaLR` at the server, and for :class:`bundle.federation.Site`.

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
