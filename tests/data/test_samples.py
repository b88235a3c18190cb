import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd, RandSpatialCropd
from torch.utils.data import DataLoader

from bundle.data import AxialSlices, DataError, DrawSampler, HeldOutDataset, SampleDataset, WholeImage
from bundle.seeding import Draw, draw


def case(number, depth=4, size=6):
    """A prepared case in which every voxel tells case, place and slice."""
    image = np.arange(depth * size * size, dtype=np.float32).reshape(1, depth, size, size).transpose(0, 2, 3, 1)
    label = np.zeros((1, size, size, depth), dtype=np.uint8)
    label[0, :2, :3, 1] = 1
    label[0, 0, :2, 2] = 1
    counts = torch.from_numpy(label.sum(axis=(0, 1, 2), dtype=np.int64))
    return {
        "image": image + 1000 * number,
        "label": label,
        "foreground_pixels": counts,
        "case": f"c{number}",
        "site": "A",
    }


def dataset(cases=3, **kwargs):
    arguments = {"transform": lambda item: case(item["number"]), "select": AxialSlices(1), "keys": ("image", "label")}
    items = [{"number": n, "case": f"c{n}", "site": "A"} for n in range(cases)]
    return SampleDataset(items, **arguments | kwargs)


@pytest.mark.parametrize(
    ("minimum", "empty", "expected"), [(1, 0, [1, 2]), (3, 0, [1]), (7, 0, []), (1, 0.5, [0, 1, 2])]
)
def test_slices_are_chosen_by_their_foreground(minimum, empty, expected):
    assert AxialSlices(minimum, empty)(case(0)) == expected


def test_slices_with_some_but_not_enough_foreground_are_not_empty_ones():
    assert AxialSlices(3, empty=10)(case(0)) == [0, 1, 3]


def test_slices_that_show_nothing_are_not_taken_as_empty_ones():
    prepared = case(0)
    prepared["image"][..., 0] = prepared["image"].min()
    assert AxialSlices(3, empty=10)(prepared) == [1, 3]


def test_a_volume_of_one_slice_was_chosen_before():
    prepared = {key: value[..., :1] for key, value in case(0).items() if key not in ("case", "site")}
    assert prepared["label"].sum() == 0
    assert AxialSlices(10)(prepared) == [0]


def test_samples_are_slices_with_their_origin():
    samples = dataset()
    assert len(samples) == 6
    sample = samples[3]
    assert (sample["case"], sample["slice"], sample["site"]) == ("c1", 2, "A")
    np.testing.assert_array_equal(sample["image"], case(1)["image"][..., 2])
    assert sample["label"].sum() == 2


def test_memory_and_disk_give_the_same_samples(tmp_path):
    in_memory, on_disk = dataset(), dataset(cache_rate=0.34, cache_dir=str(tmp_path))
    # a third of three cases stays in memory: 2 cases × 2 samples × 2 arrays on disk
    assert len(list(tmp_path.rglob("*.npy"))) == 8
    for i in range(len(in_memory)):
        assert torch.equal(in_memory[i]["image"], on_disk[i]["image"])
        assert torch.equal(in_memory[i]["label"], on_disk[i]["label"])


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_draws_are_crops_that_fit_each_other_and_the_whole_stays_as_it_is(cache_rate):
    def tile(item):
        image = np.arange(2 * 40 * 30, dtype=np.float32).reshape(2, 40, 30)
        return {"image": image, "label": image[:1].astype(np.int64)}

    keys = ["image", "label"]
    crop = Compose([RandSpatialCropd(keys, (8, 8), random_size=False), RandFlipd(keys, prob=0.5, spatial_axis=0)])
    tiles = dataset(1, transform=tile, select=WholeImage(), augmentation=crop, cache_rate=cache_rate)
    corners = set()
    for seed in range(20):
        sample = tiles[Draw(0, seed)]
        assert sample["image"].shape == (2, 8, 8)
        assert torch.equal(sample["image"][:1].long(), sample["label"])
        assert torch.equal(sample["image"], tiles[Draw(0, seed)]["image"])
        corners.add(int(sample["label"].min()))
        sample["image"].zero_()
    assert len(corners) > 15
    assert tiles[0]["image"].shape == (2, 40, 30)
    np.testing.assert_array_equal(tiles[0]["image"], tile(None)["image"])


def test_a_held_out_case_of_no_site_can_be_collated():
    items = [{"number": 0, "case": "a", "site": None}, {"number": 1, "case": "b", "site": "A"}]
    held_out = HeldOutDataset(items, lambda item: {"case": item["case"], "site": item["site"]})
    assert [batch["site"] for batch in DataLoader(held_out)] == [[""], ["A"]]


def test_a_case_is_prepared_once_however_often_it_is_drawn():
    calls = []

    def transform(item):
        calls.append(item["number"])
        return case(item["number"])

    samples = dataset(transform=transform)
    for i in range(20):
        samples[Draw(i % 6, i)]
    assert calls == [0, 1, 2]


def test_a_draw_is_a_function_of_its_seed_and_leaves_the_sample_alone():
    flip = Compose([RandFlipd(keys=["image", "label"], prob=0.5, spatial_axis=0)])
    samples = dataset(augmentation=flip)
    drawn = [samples[Draw(0, seed)] for seed in range(12)]
    again = [samples[Draw(0, seed)] for seed in reversed(range(12))][::-1]
    flipped = [not torch.equal(d["image"], samples[0]["image"]) for d in drawn]
    assert 0 < sum(flipped) < 12
    for one, other, is_flipped in zip(drawn, again, flipped, strict=True):
        assert type(one["image"]) is torch.Tensor
        assert torch.equal(one["image"], other["image"])
        # x and y together
        assert torch.equal(one["label"], samples[0]["label"].flip(1) if is_flipped else samples[0]["label"])


def test_epochs_of_draws_are_keyed_by_their_number_and_of_equal_length():
    small, large = dataset(2), dataset(3)
    epochs = []
    for data in (small, large):
        sampler = DrawSampler(data, num_draws=10, seed=1)
        sampler.set_epoch(3)
        assert len(list(sampler)) == len(sampler) == 10
        epochs.append(list(sampler))
    assert epochs[0] != epochs[1]
    # one stream: the draws of epoch 1, 2, 3 in a row take every sample equally often
    sampler, stream = DrawSampler(small, num_draws=10, seed=1), []
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        stream += [d.index for d in sampler]
    assert sorted(np.bincount(stream)) == [5, 5, 5, 5]
    assert len(list(DataLoader(small, batch_size=5, sampler=sampler))) == 2


def test_whole_images_are_samples_themselves():
    samples = dataset(select=WholeImage())
    assert len(samples) == 3
    assert samples[0]["image"].shape == (1, 6, 6, 4)
    assert "slice" not in samples[0]


def test_what_cannot_be_prepared_is_named_with_its_files():
    def transform(item):
        try:
            raise ValueError("expected labels 0, 1, found 7")
        except ValueError as error:
            raise RuntimeError("applying transform <object>") from error

    items = [{"case": "c9", "site": "B", "image": ["x_flair.nii.gz"], "label": "x_seg.nii.gz"}]
    with pytest.raises(DataError, match=r"case c9 of site B .*x_flair.*x_seg.*expected labels 0, 1, found 7"):
        SampleDataset(items, transform=transform, select=WholeImage())
    held_out = HeldOutDataset(items, transform=transform)
    with pytest.raises(DataError, match="c9"):
        held_out[0]
    with pytest.raises(DataError, match=r"held-out cases: 1 problem\n.*case c9 of site B"):
        held_out.check()


def test_no_samples_and_no_held_out_cases_are_errors():
    with pytest.raises(DataError, match=r"none of the 3 cases has a sample.*min_foreground"):
        dataset(select=AxialSlices(1000))
    with pytest.raises(DataError, match="test"):
        HeldOutDataset([], transform=dict)


@pytest.mark.parametrize(
    "augmentation", [None, Compose([RandFlipd(keys=["image", "label"], prob=0.5, spatial_axis=0)])]
)
@pytest.mark.parametrize("cache_rate", [1.0, 0.0])
def test_a_batch_is_its_draws_stacked(augmentation, cache_rate):
    samples = dataset(augmentation=augmentation, cache_rate=cache_rate)
    batch = samples.batch(seed=2, name="A", first=5, count=9)
    drawn = [samples[draw(2, "A", 5 + i, len(samples))] for i in range(9)]
    for key in ("image", "label"):
        assert torch.equal(batch[key], torch.stack([sample[key] for sample in drawn]))
        assert batch[key].dtype == drawn[0][key].dtype
    # what a caller does to a batch is not done to the samples
    batch["image"].zero_()
    assert samples.batch(2, "A", 5, 9)["image"].any()


def test_the_origin_of_a_sample_does_not_depend_on_what_is_chosen_and_made_of_it():
    items = [{"number": n, "case": f"c{n}", "patient": f"p{n // 2}", "site": "A"} for n in range(3)]
    origins = {}
    for minimum, empty, size in ((1, 0, 6), (1, 1, 6), (3, 0, 6), (1, 0, 9)):
        transform = lambda item, size=size: case(item["number"], size=size)  # noqa: E731
        samples = SampleDataset(items, transform, AxialSlices(minimum, empty), keys=("image", "label"))
        for index in range(len(samples)):
            sample = samples[index]
            origins.setdefault((sample["case"], sample["slice"]), set()).add(samples.origin(index))
    assert origins[("c2", 1)] == {("p1", "c2", 1)}
    assert all(len(found) == 1 for found in origins.values())
    assert len(set.union(*origins.values())) == len(origins)
    whole = SampleDataset(items, lambda item: case(item["number"]), WholeImage(), keys=("image", "label"))
    assert [whole.origin(index) for index in range(3)] == [("p0", "c0"), ("p0", "c1"), ("p1", "c2")]


@pytest.mark.parametrize("augmentation", [None, Compose([RandFlipd(["image", "label"], prob=0.5, spatial_axis=0)])])
def test_samples_are_changed_before_they_are_augmented(augmentation):
    plain = dataset(augmentation=augmentation)
    seen = []

    def change(index, sample):
        seen.append(index)
        return sample | {"image": sample["image"] + index + 1}

    changed = plain.changed(change)
    assert torch.equal(changed[3]["image"], plain[3]["image"] + 4)
    ours, theirs = (found.batch(seed=2, name="A", first=0, count=6) for found in (changed, plain))
    added = [draw(2, "A", place, 6).index + 1 for place in range(6)]
    assert torch.equal(ours["image"], theirs["image"] + torch.tensor(added).reshape(6, 1, 1, 1))
    assert sorted(seen[1:]) == list(range(6))
    assert torch.equal(plain[3]["image"], dataset()[3]["image"]), "those that were there are as before"
