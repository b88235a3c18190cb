"""Mixed precision where networks are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer

__all__ = ["AutocastInferer"]


class AutocastInferer(Inferer):
    """
    Calls a network under :class:`torch.autocast` on the device of its input, and returns float32.

    MONAI's engines autocast on CUDA only. With bfloat16, which has float32's range, no loss scaling is needed, so mixed
    precision is a matter of the forward call alone, and generator, discriminators and segmenters can share this one.

    Args:
        inferer: how the network is applied; None for a plain call.
        amp: whether to autocast at all.
        dtype: dtype of the autocast operations.
    """

    def __init__(self, inferer: Inferer | None = None, amp: bool = True, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.amp = amp
        self.dtype = dtype

    def __call__(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(inputs.device.type, dtype=self.dtype, enabled=self.amp):
            outputs = self.inferer(inputs, network, *args, **kwargs)
        return [o.float() for o in outputs] if isinstance(outputs, list | tuple) else outputs.float()
