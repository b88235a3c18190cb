"""Whether images show what their label maps say, in the eyes of a segmenter of real images."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from statistics import fmean

import torch
from monai.metrics import compute_dice

from bundle.evaluation.crops import batches, grid_crops

__all__ = ["Agreement"]


class Agreement:
    """
    What a segmenter that was trained on real images finds in images of which the label map is known.

    The GAN-test of Shmelkov, Schmid and Alahari (2018, https://arxiv.org/abs/1807.09499, there with a classifier): it
    falls where a generator does not draw what it is asked for, whatever the images look like otherwise. Images that
    are all alike are the easiest to read: a high figure does not make them good to learn from.

    Args:
        segmenter: images B×C×H×W to scores of the background and the classes, B×(1 + K)×H×W.
        images: site, image C×H×W and label map K×H×W of 0 and 1, one after the other.
        crop_size: side of the crops that go through the segmenter.
        batch_size: crops at once.
        device: device of ``segmenter``.

    Raises:
        ValueError: scores that are not of K classes and the background.
    """

    def __init__(
        self,
        segmenter: Callable[[torch.Tensor], torch.Tensor],
        images: Iterable[tuple[str, torch.Tensor, torch.Tensor]],
        crop_size: int,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
    ) -> None:
        self._dice: defaultdict[str, list[float]] = defaultdict(list)
        self._found: defaultdict[str, list[float]] = defaultdict(list)
        crops = (
            (site, crop, part)
            for site, image, label in images
            for (_, crop), (_, part) in zip(grid_crops(image, crop_size), grid_crops(label, crop_size), strict=True)
        )
        for batch in batches(crops, batch_size):
            with torch.no_grad():
                scores = segmenter(torch.stack([crop for _, crop, _ in batch]).to(device)).cpu()
            labels = torch.stack([part for _, _, part in batch])
            if scores.shape[1] != labels.shape[1] + 1:
                raise ValueError(
                    f"expected scores of {labels.shape[1]} classes and the background, got {scores.shape[1]} in all"
                )
            found, asked = scores.argmax(dim=1, keepdim=True) > 0, labels.any(dim=1, keepdim=True)
            dice = compute_dice(found, asked, ignore_empty=True).flatten().tolist()
            shares = found.float().mean(dim=(1, 2, 3)).tolist()
            for (site, _, _), value, share in zip(batch, dice, shares, strict=True):
                # without foreground there is no Dice
                (self._found[site].append(share) if math.isnan(value) else self._dice[site].append(value))

    def dice(self, sites: Collection[str]) -> float:
        """Mean Dice of all classes together over the crops of these sites with foreground; NaN without any."""
        return _mean(self._dice, sites)

    def false_share(self, sites: Collection[str]) -> float:
        """Mean share of pixels that are found in their crops without foreground, 0 to 1; NaN without any."""
        return _mean(self._found, sites)


def _mean(values: dict[str, list[float]], sites: Collection[str]) -> float:
    known = [value for site in sites for value in values.get(site, [])]
    return fmean(known) if known else math.nan
