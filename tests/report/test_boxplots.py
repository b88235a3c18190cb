from pictures import check_png

from bundle.report import metric_boxplot


def test_boxplot(tmp_path):
    results = {
        "settings": {
            "real_all": {"dice": {"per_case": {"a": [0.5, 0.7], "b": [0.9], "c": [None]}}},
            "real_subset/$": {"dice": {"per_case": {"a": [float("inf")]}}},
            "asyndgan": {"dice": {"per_case": {"a": [0.4]}}},
            "syn_all": None,
        }
    }
    metric_boxplot(results, "dice", tmp_path / "box.png")
    check_png(tmp_path / "box.png")
    metric_boxplot({}, "hd95", tmp_path / "empty.png")
    check_png(tmp_path / "empty.png")
