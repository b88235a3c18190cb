"""What every kind of setting is trained on, in words that the server and the sites share."""

import pytest

from bundle.settings import (
    GROUPS,
    KINDS,
    all_settings,
    averaged_sites,
    check_generates,
    image_sources,
    needed_before,
    own_shares,
    real_sites,
)

SITES = ["C", "A", "B"]


@pytest.mark.parametrize(
    ("setting", "real", "synthetic", "before"),
    [
        ("real_all", "ABC", [], []),
        ("real_subset/B", "B", [], []),
        ("real_subset_augmented/B", "B", [], []),
        ("real_subset_plus_asyndgan/B", "B", ["asyndgan"], ["asyndgan"]),
        ("asyndgan_then_real_subset/B", "B", ["asyndgan"], ["asyndgan"]),
        ("fedavg", "ABC", [], []),
        ("syn_all", "", ["syn_all"], []),
        ("syn_subset/B", "", ["syn_subset/B"], []),
        ("syn_subset_pooled", "", ["syn_subset/A", "syn_subset/B", "syn_subset/C"], [*"ABC"]),
        ("labels_only", "", ["labels_only"], ["asyndgan"]),
        ("teachers_only", "", ["teachers_only"], ["asyndgan"]),
        ("asyndgan", "", ["asyndgan"], []),
        ("leave_out/B", "", ["leave_out/B"], []),
        ("leave_out_real_all/B", "AC", [], []),
        ("leave_out_fedavg/B", "AC", [], []),
    ],
)
def test_what_a_segmenter_sees(setting, real, synthetic, before):
    assert real_sites(setting, SITES) == list(real)
    assert image_sources(setting, SITES) == synthetic
    assert needed_before(setting, SITES) == ([f"syn_subset/{s}" for s in before] if len(before) == 3 else before)


def test_only_averaged_settings_average_and_over_the_sites_whose_images_they_see():
    for setting in all_settings(KINDS, SITES):
        averaged = averaged_sites(setting, SITES)
        assert averaged == (real_sites(setting, SITES) if "fed" in setting else [])


def test_groups_name_kinds_and_every_kind_is_in_one_or_stands_alone():
    for kinds in GROUPS.values():
        assert set(kinds) <= KINDS.keys()
    assert KINDS.keys() - {kind for kinds in GROUPS.values() for kind in kinds} == {"syn_subset", "teachers_only"}


def test_shares_of_settings_that_mix_and_of_no_others():
    assert own_shares("real_subset_plus_asyndgan/A", 0.5, 350) == [(0, 0.5)]
    assert own_shares("asyndgan_then_real_subset/A", 0.5, 350) == [(0, 0.0), (350, 1.0)]
    for setting in set(all_settings(KINDS, "A")) - {"real_subset_plus_asyndgan/A", "asyndgan_then_real_subset/A"}:
        assert own_shares(setting, 0.5, 350) is None


def test_a_setting_without_synthetic_images_of_its_own():
    assert check_generates("labels_only") == "labels_only"
    with pytest.raises(ValueError, match="'fedavg' has no synthetic data set of its own: expected syn_all, "):
        check_generates("fedavg")
    with pytest.raises(ValueError, match="unknown setting 'x'"):
        check_generates("x")
