import pytest

from bundle.data import DataError, DataList, batch_sizes, check_setting, items_by_site


def datalist():
    items = [{"case": f"{site}{i}", "site": site} for site, n in (("B", 1), ("A", 3)) for i in range(n)]
    return DataList("d", "brats", "brats", ("flair",), {0: "background"}, items, [])


def test_settings_are_checked_against_the_sites():
    for setting in ("real_all", "real_subset/A", "real_subset/B", "syn_all", "syn_subset/A", "asyndgan"):
        assert check_setting(setting, ["B", "A"]) == setting
    for setting in ("real_subset", "real_all/A", "AsynDGAN", ""):
        with pytest.raises(
            DataError, match=r"unknown setting .*real_all, .*real_subset/SITE.*asyndgan.*leave_out/SITE"
        ):
            check_setting(setting, ["B", "A"])
    for setting in ("real_subset/C", "leave_out/"):
        with pytest.raises(DataError, match="no such site, expected one of A, B"):
            check_setting(setting, ["B", "A"])


def test_syn_all_has_one_site_with_everything_and_the_sum_of_the_batches():
    data = datalist()
    by_site = items_by_site(data, "asyndgan")
    assert {site: len(items) for site, items in by_site.items()} == {"A": 3, "B": 1}
    pooled = items_by_site(data, "syn_all")
    assert [len(items) for items in pooled.values()] == [4]
    assert batch_sizes(2, data, "asyndgan") == {"A": 2, "B": 2}
    assert batch_sizes({"A": 3, "B": 1}, data, "asyndgan") == {"A": 3, "B": 1}
    assert list(batch_sizes({"A": 3, "B": 1}, data, "syn_all").values()) == [4]
    assert list(batch_sizes(2, data, "syn_all")) == list(pooled)


def test_batch_sizes_must_be_for_the_sites_there_are():
    for wrong in ({"A": 1}, {"A": 1, "B": 1, "C": 1}):
        with pytest.raises(ValueError, match="but the sites are A, B"):
            batch_sizes(wrong, datalist(), "asyndgan")


def test_a_real_setting_trains_no_generator():
    with pytest.raises(ValueError, match="syn_all, syn_subset/SITE, asyndgan, leave_out/SITE"):
        items_by_site(datalist(), "real_all")
