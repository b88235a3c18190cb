"""Scores of images of which the answer is known: features are the pixels, or means of them."""

import json

import numpy as np
import pytest
import torch

from bundle.evaluation import ImageQuality, read_examples
from bundle.seeding import derive_seed

SIZE = 12
CASES = {"A": ["a0", "a1", "a2", "a3"], "B": ["b0", "b1", "b2", "b3"]}


def make_items(by_site):
    return {
        site: [{"case": case, "patient": f"patient {case}", "site": site} for case in c] for site, c in by_site.items()
    }


def real_slice(case, number, sides=(SIZE, SIZE)):
    """Image and label map of a slice: noise that depends on both."""
    rng = torch.Generator().manual_seed(derive_seed(0, case, number))
    image = torch.rand(1, *sides, generator=rng) * 2 - 1
    return image, (torch.rand(1, *sides, generator=rng) > 0.5).to(torch.uint8)


class Samples:
    """Two slices a real case; a synthetic image is what ``drawn`` makes of its pair."""

    def __init__(self, data, name, drawn=None, sides=(SIZE, SIZE)):
        self.samples = []
        for item in data:
            about = {"case": item["case"], "site": item["site"]}
            if "_" not in item["case"]:
                for number in (0, 1):
                    self.add(*real_slice(item["case"], number, sides), about | {"slice": number})
                continue
            site, index, copy = item["case"].split("_")
            case, number = self.pair(site, int(index)), int(index) % 2
            image, label = real_slice(case, number, sides)
            image = drawn(image, derive_seed(0, case, number))
            self.add(image, label if copy == "0" else 1 - label, about | {"slice": 0})

    def add(self, image, label, about):
        self.samples.append({"image": image, "condition": torch.cat([label, torch.ones_like(label)])} | about)

    @staticmethod
    def pair(site, index):
        cases = [case for cases in CASES.values() for case in cases] if site == "all" else CASES[site]
        return cases[index // 2]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def noise(seed):
    return torch.rand(1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed + 5)) * 2 - 1


def measure(folder, drawn, real=None, copies=1, first=0, sides=(SIZE, SIZE), **arguments):
    real = make_items(CASES) if real is None else real
    synthetic = {
        site: [
            {"case": f"{site}_{i:05d}_{copy}", "site": site}
            for i in range(2 * len(items))
            for copy in range(first, first + copies)
        ]
        for site, items in real.items()
    }
    given = {"features": lambda images: images.flatten(1), "crop_size": SIZE, "num_classes": 1, "num_examples": 2}
    quality = ImageQuality(
        lambda data, name: Samples(data, name, drawn, sides), folder=str(folder), **given | arguments
    )
    return quality(real, synthetic)


def test_a_generator_that_copies_its_training_images(tmp_path):
    scores = measure(tmp_path, lambda image, seed: image)
    for place in ("overall", "A", "B"):
        assert scores["ssim"][place] == pytest.approx(1, abs=1e-5)
        assert scores["fid"][place] == pytest.approx(0, abs=1e-6)
        assert scores["own_pair_share"][place] == 1
        assert scores["neighbour_ratio/any patient"][place] == 0
        # of other patients it has what real images have: they are the same images
        assert scores["neighbour_ratio/other patients"][place] == 1
        assert scores["fid/other patients"][place] == pytest.approx(scores["fid/real, other patients"][place], rel=1e-5)
        assert scores["mmd/other patients"][place] == pytest.approx(scores["mmd/real, other patients"][place])
    assert scores["images"] == scores["images/real"] == {"overall": 16, "A": 8, "B": 8}


def test_a_generator_that_draws_one_patient_whatever_it_is_asked(tmp_path):
    copied = Samples(make_items(CASES)["A"], "")[0]["image"]
    scores = measure(tmp_path, lambda image, seed: copied)
    assert scores["neighbour_ratio/other patients"]["B"] == 0
    assert scores["neighbour_share"]["B"] == 1
    assert scores["own_pair_share"] == {"overall": 1 / 16, "A": 1 / 8, "B": 0}
    examples = [example for example in read_examples(tmp_path) if example["kind"] == "other patients"]
    assert [example["distance"] for example in examples] == [0, 0]
    for example in examples:
        assert example["nearest"]["case"] == "a0"
        assert example["other"]["case"] != "a0"
        assert example["between"] > 0.5
        assert np.array_equal(example["synthetic"]["image"], example["nearest"]["image"])


def test_examples_are_suspicious_and_not_merely_near(tmp_path):
    """Empty images of different patients are near to each other; a copy that is a little farther off is shown first."""
    empty = {derive_seed(0, case, number) for case in CASES["B"] for number in (0, 1)}
    seen = torch.stack([real_slice(case, number)[0].flatten() for case in CASES["B"] for number in (0, 1)])
    copied, _ = real_slice("a0", 0)

    def features(images):
        flat = images.flatten(1)
        is_empty = (flat[:, None] - seen).abs().amax(dim=2).amin(dim=1) < 1e-6
        return torch.where(is_empty[:, None], flat / 1000, flat)

    measure(tmp_path, lambda image, seed: image if seed in empty else copied + 0.1 * noise(seed), features=features)
    examples = [example for example in read_examples(tmp_path) if example["kind"] == "other patients"]
    assert all(example["nearest"]["case"] == "a0" for example in examples)
    assert all(0.01 < example["distance"] < 0.2 < example["between"] for example in examples)


def test_a_generator_of_noise(tmp_path):
    scores = measure(tmp_path, lambda image, seed: noise(seed))
    assert abs(scores["ssim"]["overall"]) < 0.2
    assert scores["neighbour_ratio/other patients"]["overall"] == pytest.approx(1, abs=0.1)
    assert abs(scores["mmd/other patients"]["overall"]) < 0.1
    # more images of the same distribution are nearer in FID: what the numbers of images are reported for
    assert 0 < scores["fid"]["overall"] < scores["fid"]["A"]


def test_syn_all_is_scored_by_the_sites_of_its_label_maps(tmp_path):
    drawn = {"drawn": lambda image, seed: noise(seed)}
    of_sites = measure(tmp_path / "a", **drawn)
    pooled = {"all": [item for items in make_items(CASES).values() for item in items]}
    of_all = measure(tmp_path / "b", real=pooled, **drawn)
    assert of_all == of_sites


def test_a_single_patient_has_nobody_to_compare_with(tmp_path):
    scores = measure(tmp_path, lambda image, seed: noise(seed), real=make_items({"A": ["a0"]}))
    assert np.isnan(scores["fid/real, other patients"]["A"])
    assert np.isnan(scores["fid/real, other sites"]["A"])
    assert np.isnan(scores["neighbour_ratio/other patients"]["overall"])
    (example,) = read_examples(tmp_path)
    assert example["kind"] == "any patient"
    assert example["between"] is example["other"] is None


def test_copies_of_other_label_maps_have_no_pair(tmp_path):
    """Their images count; SSIM is of the first copies alone."""
    scores = measure(tmp_path, lambda image, seed: image, copies=2)
    assert scores["images"]["overall"] == 2 * scores["images/real"]["overall"]
    assert scores["ssim"]["overall"] == pytest.approx(1, abs=1e-5)


def test_pairs_are_drawn_where_every_image_is_of_a_transformed_label_map(tmp_path):
    truth = {s["condition"].numpy().tobytes(): s["image"] for s in Samples(make_items(CASES)["A"], "").samples}
    seeds_by_image = []

    def synthesize(condition, seeds):
        seeds_by_image.extend(seeds)
        return truth[condition.numpy().tobytes()][None]

    real = {"A": make_items(CASES)["A"]}
    scores = measure(tmp_path, lambda image, seed: noise(seed), real=real, first=1, synthesize=synthesize)
    assert scores["ssim"]["A"] == pytest.approx(1, abs=1e-5)
    assert len(seeds_by_image) == len(set(seeds_by_image)) == 8
    assert np.isnan(measure(tmp_path, lambda image, seed: noise(seed), real=real, first=1)["ssim"]["A"])


def test_large_images_are_compared_by_crops(tmp_path):
    scores = measure(tmp_path, lambda image, seed: image, sides=(2 * SIZE + 3, SIZE))
    assert scores["images/real"] == {"overall": 32, "A": 16, "B": 16}
    examples = read_examples(tmp_path)
    assert {tuple(example["nearest"]["place"]) for example in examples} <= {(0, 0), (SIZE, 0)}
    assert {example["other"]["image"].shape for example in examples} == {(1, SIZE, SIZE)}
    with pytest.raises(ValueError, match=r"at least 12×12 pixels, got 11×12"):
        measure(tmp_path, lambda image, seed: image, sides=(SIZE - 1, SIZE))


def test_what_a_segmenter_of_real_images_finds(tmp_path):
    """Images that are bright where their label map is, and real ones that have nothing to do with theirs."""
    numbered = [(case, number) for cases in CASES.values() for case in cases for number in (0, 1)]
    labels = {derive_seed(0, *place): real_slice(*place)[1] for place in numbered}

    def segmenter(images):
        return torch.cat([-images, images], dim=1)

    given = {"drawn": lambda image, seed: 2.0 * labels[seed] - 1, "segmenter": segmenter}
    scores = measure(tmp_path, **given)
    assert scores["gan_test"] == {"overall": 1, "A": 1, "B": 1}
    assert all(0.4 < value < 0.6 for value in scores["gan_test/training images"].values())
    assert np.isnan(scores["false_foreground"]["overall"]), "no label map is empty"
    # second copies have the opposite of it as their label map
    assert measure(tmp_path, copies=2, **given)["gan_test"] == {"overall": 0.5, "A": 0.5, "B": 0.5}
    pooled = {"all": [item for items in make_items(CASES).values() for item in items]}
    assert measure(tmp_path, real=pooled, **given) == scores
    assert "gan_test" not in measure(tmp_path, given["drawn"])


def test_held_out_conditions_of_the_sites_are_drawn(tmp_path):
    held_out = [{"case": case, "site": site} for case, site in (("h0", "A"), ("h1", None), ("h2", "B"))]
    truth = {int(s["condition"].sum()): s["image"] for s in Samples(held_out, "").samples}
    asked, drawn_with = [], []

    def synthesize(condition, seeds):
        drawn_with.extend(seeds)
        asked.append(int(condition.sum()))
        return truth[asked[-1]][None]

    scores = measure(tmp_path, lambda image, seed: noise(seed), held_out=held_out, synthesize=synthesize)
    assert scores["ssim/held-out conditions"] == pytest.approx({"overall": 1, "A": 1, "B": 1}, abs=1e-5)
    assert len(asked) == len(set(drawn_with)) == 4
    first = list(drawn_with)
    measure(tmp_path, lambda image, seed: noise(seed), held_out=held_out, synthesize=synthesize)
    assert drawn_with[4:] == first
    measure(tmp_path, lambda image, seed: noise(seed), held_out=held_out, synthesize=synthesize, seed=1)
    assert not set(drawn_with[8:]) & set(first)
    assert np.isnan(measure(tmp_path, lambda image, seed: image)["ssim/held-out conditions"]["overall"])


def test_the_order_of_what_is_given_does_not_matter(tmp_path):
    first = measure(tmp_path / "a", lambda image, seed: noise(seed))
    kept = json.loads((tmp_path / "a/neighbours.json").read_text(encoding="utf-8"))
    again = measure(tmp_path / "b", lambda image, seed: noise(seed), real=make_items(dict(reversed(CASES.items()))))
    assert again == first
    assert json.loads((tmp_path / "b/neighbours.json").read_text(encoding="utf-8")) == kept


def test_only_images_of_label_maps_that_a_site_released_are_scored(tmp_path):
    real = make_items(CASES)
    quality = ImageQuality(
        lambda data, name: Samples(data, name, lambda image, seed: image),
        lambda images: images.flatten(1),
        SIZE,
        1,
        str(tmp_path),
    )
    own = [{"case": "bank_00000_0", "site": "bank", "condition_source": "bank of the server"}]
    released = [{"case": f"A_{i:05d}_0", "site": "A", "condition_source": "released by site"} for i in range(8)]
    scores = quality(real, {"A": released, "bank": own})
    assert scores["images"] == {"overall": 8, "A": 8}
    assert scores["ssim"]["overall"] == pytest.approx(1, abs=1e-5)
    # the training images of the other site are still there to be compared with
    assert np.isfinite(scores["fid/real, other sites"]["A"])
    assert quality(real, {"bank": own}) == {}


def test_what_does_not_belong_together(tmp_path):
    real = make_items(CASES)
    quality = ImageQuality(
        lambda data, name: Samples(data, name, lambda image, seed: image), torch.flatten, SIZE, 1, str(tmp_path)
    )
    with pytest.raises(ValueError, match="images of site C, which the data list has not"):
        quality(real, {"C": [{"case": "C_00000_0", "site": "C"}]})
    synthetic = {site: [{"case": f"{site}_00000_0", "site": site}] for site in CASES}
    fewer = {"A": real["A"][:0], "B": real["B"]}
    with pytest.raises(ValueError, match=r"A_00000_0 has no pair: site A has 0 samples.*trained with"):
        quality(fewer, synthetic)
    swapped = {"A": real["A"][::-1], "B": real["B"]}
    with pytest.raises(ValueError, match=r"A_00000_0 and sample 0 of site A \(case a3\) have different label maps"):
        quality(swapped, synthetic)


def test_a_speck_in_the_same_place_of_every_image(tmp_path):
    def speckled(image, seed):
        spoilt = torch.zeros_like(image)
        spoilt[0, 5, 6] = 1
        return spoilt

    scores = measure(tmp_path, speckled)
    assert scores["fixed_pattern_rate"] == {"overall": 1, "A": 1, "B": 1}
    assert scores["fixed_pattern"] == {"overall": 17, "A": 9, "B": 9}
    # of the real ones: noise
    assert scores["fixed_pattern/training images"]["overall"] < 2.5
