"""The scores of synthetic images themselves: FID, MMD, SSIM, GAN-test, nearest neighbours, by site and overall."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from bundle.evaluation.agreement import Agreement
from bundle.evaluation.copies import KINDS, Search, write_examples
from bundle.evaluation.crops import Crops, batches, grid_crops
from bundle.evaluation.fid import compare_sets
from bundle.evaluation.fixed_pattern import FixedPattern
from bundle.evaluation.record import OVERALL, Items
from bundle.metrics import structural_similarity
from bundle.seeding import derive_seed
from bundle.settings import OWN

__all__ = ["ImageQuality"]

logger = logging.getLogger(__name__)

_NAME = re.compile(r".+_(?P<index>\d+)_(?P<copy>\d+)")


class ImageQuality:
    """
    Compares synthetic images with the real ones that the generator was trained with.

    Images are compared as crops of one size on a fixed grid: a slice is one crop, a large tile has many. A synthetic
    image belongs to the site and the patient whose label map it was drawn from, also in Syn-All, where one site holds
    everything. The n-th condition of a site is that of the n-th sample of its data, so the n-th synthetic image and the
    n-th real one are a pair, which is checked: their label maps are the same. Copies beyond copy 0 are drawn from a
    transformed label map and have no pair; where there is no copy 0, pairs are drawn anew from the conditions as they
    are. Images from the server's own conditions are left out, and a site that
    released none has no scores; its training images are among the neighbours.

    Features are standardised by their mean and standard deviation over the real images, so that the scale of a layer
    does not matter; those that are constant there are left out.

    Args:
        samples: makes a data set of samples from ``data`` and ``name``, such as a partial
            :class:`bundle.data.SampleDataset`, with ``image`` (C×H×W in [-1, 1]) and ``condition``.
        features: images B×C×H×W to features B×F, such as :class:`bundle.networks.PooledFeatures`.
        crop_size: side of a crop.
        num_classes: channels of the condition that are the label map; an outline may follow.
        folder: where examples of nearest neighbours are written, ``neighbours.npz`` and ``neighbours.json``.
        held_out: items that the generator was not trained with; those of the sites are used.
        synthesize: draws images with the generator from conditions B×X×H×W and a seed for each; None: neither held-out
            conditions nor missing pairs are drawn.
        seed: seed of the run: what a condition draws of noise here depends on (seed, case, slice).
        segmenter: a segmenter of real images that no generator has seen, images B×C×H×W to scores of the background and
            the ``num_classes`` classes, B×(1 + K)×H×W; None: no GAN-test.
        num_examples: examples of each of :data:`bundle.evaluation.KINDS` to write.
        batch_size: crops that go through ``features`` at once.
        device: device of ``features`` and ``segmenter``.

    Called with the real and the synthetic items by site, it returns by metric the values by site, and under
    :data:`OVERALL` that of all together: those of :func:`bundle.evaluation.fid.compare_sets` and
    of :meth:`bundle.evaluation.copies.Search.scores`, and

    ``ssim``
        structural similarity of pairs;
    ``ssim/held-out conditions``
        the same where the generator draws from the conditions of held-out cases: a generator that had learnt its
        training images by heart would do worse here;
    ``gan_test``, ``gan_test/training images``
        Dice of what the segmenter finds in synthetic images, and in real ones, with their label maps, all classes
        together (:class:`bundle.evaluation.agreement.Agreement`);
    ``false_foreground``, ``false_foreground/training images``
        share of the pixels that it marks where the label map is empty;
    ``fixed_pattern``, ``fixed_pattern_rate``, ``fixed_texture``, each also ``/training images``
        whether all have a speck or a stripe in one place (:class:`bundle.evaluation.fixed_pattern.FixedPattern`);
    ``images``, ``images/real``
        numbers of synthetic and real crops.

    Raises:
        ValueError: when synthetic and real items do not belong together.
    """

    def __init__(
        self,
        samples: Callable[..., Any],
        features: Callable[[torch.Tensor], torch.Tensor],
        crop_size: int,
        num_classes: int,
        folder: str,
        held_out: Sequence[Mapping] = (),
        synthesize: Callable[..., torch.Tensor] | None = None,
        segmenter: Callable[[torch.Tensor], torch.Tensor] | None = None,
        num_examples: int = 4,
        batch_size: int = 64,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples = samples
        self.features = features
        self.crop_size = crop_size
        self.num_classes = num_classes
        self.folder = Path(folder)
        self.held_out = list(held_out)
        self.synthesize = synthesize
        self.segmenter = segmenter
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.device = device

    def __call__(self, real: Items, synthetic: Items) -> dict[str, dict[str, float]]:
        if strange := sorted(
            {item["site"] for items in synthetic.values() for item in items if not _of_bank(item)} - set(real)
        ):
            raise ValueError(f"the synthetic data set has images of site {strange[0]}, which the data list has not")
        synthetic = {key: [item for item in synthetic.get(key, []) if not _of_bank(item)] for key in real}
        synthetic = {key: items for key, items in synthetic.items() if items}
        if lacking := sorted(set(real) - set(synthetic)):
            logger.warning("image quality: no images from label maps of %s, which released none", ", ".join(lacking))
        if not synthetic:
            return {}
        data = {key: self.samples(data=real[key], name=f"site {key}") for key in sorted(real)}
        made = {
            key: self.samples(data=synthetic[key], name=f"synthetic images of site {key}") for key in sorted(synthetic)
        }
        items = {item["case"]: item for items in real.values() for item in items}
        real_crops = self._crops(self._real(data, items))
        synthetic_crops = self._crops(self._synthetic(data, made, synthetic, items))
        std, mean = torch.std_mean(real_crops.features, dim=0)
        # one that is the same in all real images has no scale: any difference would drown all others
        varying = std > 1e-6 * std.max()
        for crops in (real_crops, synthetic_crops):
            crops.features = ((crops.features - mean) / std)[:, varying]
        similar = self._similarities(data, made, items), self._held_out_similarities(set(real_crops.site))
        agreements = self._agreements(data, made, items)
        patterns = self._patterns(data, made, items)
        search = Search(synthetic_crops, real_crops)
        examples = [example for kind in KINDS for example in search.examples(kind, self.num_examples)]
        write_examples(self.folder, examples, lambda source: self._look_up(source, data, made))
        scores: dict[str, dict[str, float]] = {}
        sites = sorted(set(synthetic_crops.site))
        for name, group in [(OVERALL, sites), *((site, [site]) for site in sites)]:
            found = compare_sets(synthetic_crops, real_crops, group) | search.scores(group)
            for metric, by_site in zip(("ssim", "ssim/held-out conditions"), similar, strict=True):
                values = [value for site in group for value in by_site.get(site, [])]
                found[metric] = fmean(values) if values else math.nan
            for suffix, agreement in agreements.items():
                found[f"gan_test{suffix}"] = agreement.dice(group)
                found[f"false_foreground{suffix}"] = agreement.false_share(group)
            for suffix, pattern in patterns.items():
                found |= {f"{metric}{suffix}": value for metric, value in pattern.scores(group).items()}
            found["images"] = sum(site in group for site in synthetic_crops.site)
            found["images/real"] = sum(site in group for site in real_crops.site)
            for metric, value in found.items():
                scores.setdefault(metric, {})[name] = value
        return scores

    def _real(self, data: Mapping, items: Mapping) -> Iterator[tuple[torch.Tensor, dict]]:
        for key, samples in data.items():
            for index in range(len(samples)):
                sample = samples[index]
                yield sample["image"], self._about(sample, items) | {"key": key, "index": index}

    def _synthetic(
        self, data: Mapping, made: Mapping, synthetic: Items, items: Mapping
    ) -> Iterator[tuple[torch.Tensor, dict]]:
        for key, samples in made.items():
            if len(samples) != len(synthetic[key]):
                raise ValueError(
                    f"site {key}: {len(synthetic[key])} synthetic images have {len(samples)} samples, expected one each"
                )
            for place in range(len(samples)):
                sample = samples[place]
                index, copy = _index_and_copy(sample["case"])
                if index >= len(data[key]):
                    raise ValueError(
                        f"synthetic image {sample['case']} has no pair: site {key} has {len(data[key])} samples. Is "
                        "this the data list that the generator was trained with?"
                    )
                pair = data[key][index]
                maps = (s["condition"][: self.num_classes] for s in (sample, pair))
                if copy == 0 and not torch.equal(*maps):
                    raise ValueError(
                        f"synthetic image {sample['case']} and sample {index} of site {key} (case {pair['case']}) have "
                        "different label maps. Is this the data list that the generator was trained with?"
                    )
                own = {"key": key, "index": place, "case": sample["case"], "synthetic": True, "pair": (key, index)}
                yield sample["image"], self._about(pair, items) | own

    @staticmethod
    def _about(sample: Mapping, items: Mapping) -> dict:
        item = items[sample["case"]]
        # hospitals name patients by themselves: two may have a "1"
        patient = f"{item['site']}/{item.get('patient', item['case'])}"
        about = {"case": sample["case"], "site": item["site"], "patient": patient}
        return about | ({"slice": sample["slice"]} if "slice" in sample else {})

    def _crops(self, images: Iterator[tuple[torch.Tensor, dict]]) -> Crops:
        def crops() -> Iterator[tuple[torch.Tensor, dict]]:
            for image, about in images:
                for place, crop in grid_crops(image, self.crop_size):
                    yield crop, about | {"place": place}

        features, abouts = [], []
        for batch in batches(crops(), self.batch_size):
            features.append(self.features(torch.stack([crop for crop, _ in batch]).to(self.device)).cpu())
            abouts += [about for _, about in batch]
        return Crops(torch.cat(features), [a["site"] for a in abouts], [a["patient"] for a in abouts], abouts)

    def _agreements(self, data: Mapping, made: Mapping, items: Mapping) -> dict[str, Agreement]:
        """By suffix of the metric: of the synthetic images, and of the real ones; none without a segmenter."""
        if self.segmenter is None:
            return {}
        of_labels = slice(self.num_classes)
        return {
            suffix: Agreement(self.segmenter, found, self.crop_size, self.batch_size, self.device)
            for suffix, found in self._with_channels(of_labels, data, made, items)
        }

    def _patterns(self, data: Mapping, made: Mapping, items: Mapping) -> dict[str, FixedPattern]:
        of_outline = slice(self.num_classes, None)
        return {
            suffix: FixedPattern(found, self.crop_size)
            for suffix, found in self._with_channels(of_outline, data, made, items)
        }

    @staticmethod
    def _with_channels(
        channels: slice, data: Mapping, made: Mapping, items: Mapping
    ) -> Iterator[tuple[str, Iterator[tuple[str, torch.Tensor, torch.Tensor]]]]:
        """Suffixes of metrics with the synthetic and the real images: site, image, and these of the condition."""

        def images(of: Mapping, case_of: Callable) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
            for key, samples in of.items():
                for place in range(len(samples)):
                    sample = samples[place]
                    site = items[case_of(key, sample)]["site"]
                    yield site, sample["image"], sample["condition"][channels]

        yield "", images(made, lambda key, sample: data[key][_index_and_copy(sample["case"])[0]]["case"])
        yield "/training images", images(data, lambda _, sample: sample["case"])

    def _similarities(self, data: Mapping, made: Mapping, items: Mapping) -> dict[str, list[float]]:
        """SSIM of pairs by site."""

        def pairs() -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
            for key, samples in made.items():
                paired = False
                for place in range(len(samples)):
                    sample = samples[place]
                    index, copy = _index_and_copy(sample["case"])
                    if copy == 0:
                        paired = True
                        pair = data[key][index]
                        yield items[pair["case"]]["site"], sample["image"], pair["image"]
                if not paired and self.synthesize is not None:
                    for index in range(len(data[key])):
                        pair = data[key][index]
                        yield items[pair["case"]]["site"], self._drawn(pair, "pair"), pair["image"]

        return self._compare(pairs())

    def _drawn(self, sample: Mapping, purpose: str) -> torch.Tensor:
        """What the generator draws from the condition of a sample, C×H×W."""
        seed = derive_seed(self.seed, "noise", purpose, sample["case"], int(sample.get("slice", 0)))
        assert self.synthesize is not None
        return self.synthesize(sample["condition"][None], seeds=[seed])[0]

    def _held_out_similarities(self, sites: set[str]) -> dict[str, list[float]]:
        """SSIM by site between held-out images and what the generator draws from their conditions."""
        items = [item for item in self.held_out if item.get("site") in sites]
        if not items or self.synthesize is None:
            return {}
        samples = self.samples(data=items, name="held-out cases")

        def pairs() -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
            for index in range(len(samples)):
                sample = samples[index]
                yield sample["site"], self._drawn(sample, "held out"), sample["image"]

        return self._compare(pairs())

    def _compare(self, pairs: Iterator[tuple[str, torch.Tensor, torch.Tensor]]) -> dict[str, list[float]]:
        def crops() -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
            for site, one, other in pairs:
                both = zip(grid_crops(one, self.crop_size), grid_crops(other, self.crop_size), strict=True)
                yield from ((site, first, second) for (_, first), (_, second) in both)

        values: dict[str, list[float]] = {}
        for batch in batches(crops(), self.batch_size):
            ours, theirs = (torch.stack([entry[side] for entry in batch]) for side in (1, 2))
            for (site, _, _), value in zip(batch, structural_similarity(ours, theirs).tolist(), strict=True):
                values.setdefault(site, []).append(value)
        return values

    def _look_up(self, source: Mapping, data: Mapping, made: Mapping) -> torch.Tensor:
        samples = (made if source.get("synthetic") else data)[source["key"]]
        row, column = source["place"]
        size = self.crop_size
        return samples[source["index"]]["image"][:, row : row + size, column : column + size]


def _of_bank(item: Mapping) -> bool:
    """Whether the image's condition is the server's own: it is no site's, and has no real image here."""
    return item.get("condition_source") == OWN


def _index_and_copy(case: str) -> tuple[int, int]:
    """Of the name that :class:`bundle.engines.SyntheticWriter` gives: SITE_INDEX_COPY."""
    found = _NAME.fullmatch(case)
    if found is None:
        raise ValueError(f"synthetic image {case}: expected a name SITE_INDEX_COPY, as generate.yaml writes them")
    return int(found["index"]), int(found["copy"])
