import numpy as np
import pytest
import torch
from skimage.draw import ellipse

from bundle.audit.candidates import Candidates
from bundle.audit.condition_audit import KINDS, NotDrawn, audit_conditions, make_release
from bundle.audit.reidentification import Search, identification_rates, nearest_release, other_reading
from bundle.audit.scores import dice_matrix
from bundle.shapes import OrganWithRegions

SIZE = 64


def head(rng):
    """An outline and a tumour in it, of a patient's own shape; the slices of a patient grow and shrink."""
    outline = rng.uniform(22, 25), rng.uniform(19, 22)
    place, axes, turn = rng.uniform(-8, 8, 2), rng.uniform(4, 9, 2), rng.uniform(0, np.pi)
    slices = []
    for factor in (0.85, 1.0):
        masks = np.zeros((2, SIZE, SIZE), dtype=np.uint8)
        masks[1][ellipse(31.5, 31.5, *(factor * a for a in outline), shape=(SIZE, SIZE))] = 1
        tumour = ellipse(31.5 + place[0], 31.5 + place[1], *(factor * axes), shape=(SIZE, SIZE), rotation=turn)
        masks[0][tumour] = 1
        slices.append(torch.from_numpy(masks))
    return slices


def candidates(patients=16):
    rng = np.random.default_rng(0)
    conditions = torch.stack([x for p in range(patients) for x in head(rng)])
    of = np.repeat(np.arange(patients), 2)
    sites = tuple("AB"[p % 2] for p in of)
    names = tuple(f"{'AB'[p % 2]}/{p}" for p in of)
    return Candidates(torch.zeros(len(of), 1, SIZE, SIZE), conditions, sites, sites, names, of < 10)


def turned(condition, seed):
    """A pure rotation, by up to 40 degrees."""
    from monai.transforms import Rotate

    angle = np.deg2rad(np.random.default_rng(seed).choice([-40, -30, 30, 40]))
    moved = Rotate(angle, mode="nearest", padding_mode="zeros")(condition.float())
    return torch.as_tensor(moved).as_subclass(torch.Tensor).to(torch.uint8)


@pytest.fixture(scope="module")
def found():
    search = Search(angles=(-40.0, -30.0, 0.0, 30.0, 40.0), scales=(1.0,), mirrored=False)
    return audit_conditions(candidates(), turned, 1, search, None, None, shapes=OrganWithRegions(1))


def test_real_conditions_name_their_patients_and_public_ones_name_nobody(found):
    real, public = (found["releases"][kind]["as they are"] for kind in ("real", "public"))
    assert 0.8 < found["dice"]["known masks"] < 0.97
    assert real["membership"]["auc"] > 0.95
    assert real["identification"]["masks"]["rate"] == real["identification"]["patients"]["rate"] == 1
    assert real["identification"]["masks"]["chance"] == pytest.approx(0.2)  # five members at each site
    assert real["membership"]["member_patients"] == real["identification"]["patients"]["number"] == 10
    low, high = public["membership"]["interval"]
    assert low < 0.5 < high
    low, high = public["identification"]["masks"]["interval"]
    assert low <= 0.2 <= high


def test_an_attacker_who_knows_of_the_rotation_undoes_it(found):
    plain, aligned = (found["releases"]["deformed"][attack] for attack in ("as they are", "aligned"))
    assert found["dice"]["deformed conditions"] < 0.8
    assert plain["identification"]["masks"]["rate"] < 0.75
    assert aligned["identification"]["masks"]["rate"] > 0.9
    assert aligned["membership"]["auc"] > plain["membership"]["auc"]
    assert aligned["membership"]["auc"] > 0.9


def test_the_search_finds_what_was_moved_turned_scaled_and_mirrored():
    from monai.transforms import Affine

    known = candidates().conditions[:4].float()
    move = Affine(np.deg2rad(8.0), translate_params=(5, -3), scale_params=(1 / 1.1, 1 / 1.1), mode="nearest")
    moved = torch.stack([torch.as_tensor(move(x.flip(1))[0]).as_subclass(torch.Tensor) for x in known])
    without = dice_matrix(known, moved).diagonal().numpy()
    value, index = nearest_release(known, moved, Search())
    assert len(Search()) == 70
    assert (value > 0.93).all()
    assert (value > without + 0.1).all()
    assert index.tolist() == [0, 1, 2, 3]


def test_dice_of_channels():
    known = torch.tensor([[[[1, 1, 0]], [[0, 0, 0]]]])
    released = torch.tensor([[[[1, 1, 0]], [[0, 0, 0]]], [[[0, 1, 1]], [[1, 1, 1]]], [[[0, 0, 0]], [[0, 0, 0]]]])
    assert dice_matrix(known, released).tolist() == [[1.0, 0.25, 0.5]]
    with pytest.raises(ValueError, match="expected K×X×H×W and N×X×H×W"):
        dice_matrix(known, released[..., :2])


def test_another_reading_is_near_seeded_and_moves_every_channel():
    condition = candidates().conditions[0]
    read = other_reading(condition, 3)
    assert read.dtype == torch.uint8
    assert set(read.unique().tolist()) == {0, 1}
    assert torch.equal(read, other_reading(condition, 3))
    assert not torch.equal(read, other_reading(condition, 4))
    for channel in range(2):
        assert 0.7 < dice_matrix(condition[None, channel, None], read[None, channel, None]).item() < 0.99
    empty = torch.stack([torch.zeros(9, 9), torch.ones(9, 9)]).to(torch.uint8)
    assert torch.equal(other_reading(empty, 0), empty)


def test_rates_of_masks_and_of_patients():
    named = ["a", "a", "b", "b", "a", "b"]
    patients = ["a", "a", "a", "b", "c", "c"]
    found = identification_rates(named, patients, [0.5, 0.5, 0.5, 0.25, 0.25, 0.25])
    assert found["masks"]["rate"] == 0.5
    assert found["masks"]["chance"] == 0.375
    # c has two slices that name others, one each: a tie with nobody of its own
    assert found["patients"]["rate"] == pytest.approx(2 / 3)
    assert found["patients"]["chance"] == pytest.approx(1 / 3)
    low, high = found["patients"]["interval"]
    # Wilson's interval of 2 of 3, by its formula
    z, n, p = 1.959963984540054, 3, 2 / 3
    middle, half = (p + z**2 / (2 * n)), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (low, high) == pytest.approx(((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)))
    assert identification_rates(["b"], ["a"], [0.5])["masks"]["interval"] is None
    # as many for another as for itself is no identification
    assert identification_rates(["a", "b"], ["a", "a"], [0.5, 0.5])["patients"]["rate"] == 0
    with pytest.raises(ValueError, match="expected known masks"):
        identification_rates([], [], [])


def test_how_near_conditions_come_to_a_patient_s(found):
    near, every = found["nearest"], candidates()
    assert near["real"] == 1
    assert max(near["drawn"], near["deformed"], near["public"]) < 1
    nearest = [
        max(
            dice_matrix(one[None], other[None]).item()
            for other, their, where in zip(every.conditions, every.patients, every.sites, strict=True)
            if their != patient and where == site and int(their[2:]) < 10
        )
        for one, patient, site in zip(every.conditions, every.patients, every.sites, strict=True)
        if int(patient[2:]) < 10
    ]
    assert near["another patient's"] == pytest.approx(np.mean(nearest), abs=1e-5)


def test_drawn_conditions_name_nobody(found):
    for attack in ("as they are", "aligned"):
        drawn = found["releases"]["drawn"][attack]
        low, high = drawn["membership"]["interval"]
        assert low <= 0.5 <= high
        low, high = drawn["identification"]["masks"]["interval"]
        assert low <= drawn["identification"]["masks"]["chance"] <= high


def test_what_a_site_releases():
    every = candidates()
    members = every.take(np.flatnonzero(every.member).tolist())
    releases = {kind: make_release(kind, members, "A", turned, 0, OrganWithRegions(1)) for kind in KINDS}
    own = members.take([i for i, site in enumerate(members.sites) if site == "A"])
    assert torch.equal(releases["real"].conditions, own.conditions)
    assert all(release.patients == own.patients for release in releases.values())
    assert releases["deformed"].conditions.shape == releases["drawn"].conditions.shape == own.conditions.shape
    known = {x.numpy().tobytes() for x in own.conditions}
    assert not known & {x.numpy().tobytes() for x in releases["drawn"].conditions}
    others = {x.numpy().tobytes() for x, site in zip(members.conditions, members.sites, strict=True) if site == "B"}
    public = [x.numpy().tobytes() for x in releases["public"].conditions]
    assert set(public) <= others
    assert len(set(public)) == len(own)  # none twice while they last
    with pytest.raises(ValueError, match="release 'none': expected one of real, deformed, drawn, public"):
        make_release("none", members, "A", turned, 0)
    with pytest.raises(ValueError, match="site C has no members"):
        make_release("real", members, "C", turned, 0)
    with pytest.raises(NotDrawn, match="drawn: expected a shape_model"):
        make_release("drawn", members, "A", turned, 0)
    few = own.take([0, 1, 2])
    with pytest.raises(NotDrawn, match="drawn: expected at least 5 patients"):
        make_release("drawn", few, "A", turned, 0, OrganWithRegions(1))
    with pytest.raises(ValueError, match="public: expected members of a second site"):
        make_release("public", own, "A", turned, 0)


def test_an_audit_needs_labelled_masks_of_both_kinds():
    every = candidates()
    with pytest.raises(ValueError, match="expected members and non-members with labelled slices"):
        audit_conditions(every.take(np.flatnonzero(every.member).tolist()), turned, 1)
