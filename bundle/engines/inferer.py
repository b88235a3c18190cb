"""How networks are called: in mixed precision, on inputs of any size, with noise that can be drawn again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from monai.engines import PrepareBatch, default_prepare_batch
from monai.inferers import Inferer, SimpleInferer

from bundle.engines.precision import takes_bfloat16
from bundle.seeding import derive_seed, forked_rng

__all__ = ["AutocastInferer", "PaddedInferer", "SeededBatch", "SeededInferer", "one_tensor"]


def one_tensor(outputs: Any) -> Any:
    """What a network returned, out of a tuple or list that holds nothing else, as MONAI's ``SPADENet`` returns it."""
    return outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs


class AutocastInferer(Inferer):
    """
    Calls a network under :class:`torch.autocast` on the device of its input, and returns float32: a tensor, or a list
    of several.

    MONAI's engines autocast on CUDA only. With bfloat16, which has float32's range, no loss scaling is needed, so mixed
    precision is a matter of the forward call alone, and generator, discriminators and segmenters can share this one.

    Args:
        inferer: how the network is applied; None for a plain call.
        amp: whether to autocast at all; "auto": where it pays (:func:`bundle.engines.precision.takes_bfloat16`).
        dtype: dtype of the autocast operations.
    """

    def __init__(
        self,
        inferer: Inferer | None = None,
        amp: bool | Literal["auto"] = True,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__()
        if amp != "auto":
            takes_bfloat16(amp, "cpu")  # refuses another value now and not at the first call
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.amp = amp
        self.dtype = dtype

    def __call__(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Any:
        device = inputs.device.type
        with torch.autocast(device, dtype=self.dtype, enabled=takes_bfloat16(self.amp, device)):
            outputs = one_tensor(self.inferer(inputs, network, *args, **kwargs))
        return [o.float() for o in outputs] if isinstance(outputs, list | tuple) else outputs.float()


class PaddedInferer(Inferer):
    """
    Calls a network on the whole of an input of any size: padded by reflection to what it can take, cropped afterwards.

    A generator with instance norm draws a large tile seamlessly in one piece. Windows of it have statistics of their
    own: where they are blended, one sees them.

    Args:
        divisor: of the spatial sizes that the network takes.

    Input B×C×H×W; the padding must be shorter than the sides.
    """

    def __init__(self, divisor: int) -> None:
        super().__init__()
        self.divisor = divisor

    def __call__(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> torch.Tensor:
        missing = [-size % self.divisor for size in inputs.shape[2:]]
        before = [count // 2 for count in missing]
        padding = [n for low, count in reversed(list(zip(before, missing, strict=True))) for n in (low, count - low)]
        outputs = one_tensor(network(F.pad(inputs, padding, mode="reflect"), *args, **kwargs))
        inside = [slice(low, low + size) for low, size in zip(before, inputs.shape[2:], strict=True)]
        return outputs[(..., *inside)]


class SeededBatch(PrepareBatch):
    """
    Batches of :class:`bundle.server.ConditionBank` for MONAI's evaluator, with a seed for every item: what its
    image draws of noise depends on (seed, site, number of the condition, copy), and not on the batch that it is in.
    Images that guide a generator are further channels of its input.

    Args:
        seed: seed of the run.
        active: whether there is noise; without, no seeds are given and the batch is called as one.
    """

    def __init__(self, seed: int, active: bool = True) -> None:
        self.seed = seed
        self.active = active

    def __call__(self, batchdata: Mapping, device: Any = None, non_blocking: bool = False, **kwargs: Any) -> tuple:
        inputs, target = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        if "guide" in batchdata:
            guide = batchdata["guide"].to(inputs.device)
            inputs = torch.cat([inputs.to(guide.dtype), guide], dim=1)
        if not self.active:
            return inputs, target
        places = zip(*(batchdata[key] for key in ("site", "index", "copy")), strict=True)
        seeds = [derive_seed(self.seed, "noise", str(site), int(index), int(copy)) for site, index, copy in places]
        return inputs, target, (), {"seeds": seeds}


class SeededInferer(Inferer):
    """
    Calls a network that draws noise from torch's random stream item by item, each from a seed of its own.

    Args:
        inferer: how the network is applied; None for a plain call.

    Without ``seeds`` the call is that of ``inferer``.
    """

    def __init__(self, inferer: Inferer | None = None) -> None:
        super().__init__()
        self.inferer = SimpleInferer() if inferer is None else inferer

    def __call__(
        self, inputs: torch.Tensor, network: Callable, *args: Any, seeds: Sequence[int] | None = None, **kwargs: Any
    ) -> torch.Tensor:
        if seeds is None:
            return self.inferer(inputs, network, *args, **kwargs)
        outputs = []
        for item, seed in zip(inputs.split(1), seeds, strict=True):
            with forked_rng(seed, inputs.device):
                outputs.append(self.inferer(item, network, *args, **kwargs))
        return torch.cat(outputs)
