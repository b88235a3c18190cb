import json

import pytest

from scripts.estimate_step import Measured, estimate, main, read_call, read_step, table


def test_an_estimate_of_known_figures():
    one = estimate(Measured(0.5, 0.2), batch=2, size=250_000, call=0.01, hospitals=50, megabits=100)
    # 50 · 2 images through G, 2 at a site, 50 · 2 Mbit through 100 Mbit/s, 50 calls
    assert one == pytest.approx((50.0, 0.4, 1.0, 0.5))
    assert one.largest == "G"
    assert estimate(Measured(0, 0), 1, 250_000, 0.01, 50, 100).largest == "the line"
    assert table({("small", "float32"): one}).endswith("| small | float32 | 50.00 | 0.40 | 1.00 | 0.50 | 51.90 | G |")


def test_what_benchmarks_wrote_is_read(tmp_path):
    step, scale = tmp_path / "step.json", tmp_path / "scale.json"
    share = {"G": 0.8, "D": 0.1, "data": 0.05, "everything else": 0.05}
    step.write_text(json.dumps({"images per step": 8, "float32": {"seconds_per_step": 4.0, "share": share}}))
    scale.write_text(json.dumps({"overhead": {"seconds_per_call": 0.003}}))
    assert read_step(step, "float32") == pytest.approx((0.4, 0.075))
    assert read_call(scale) == 0.003
    with pytest.raises(ValueError, match=r"benchmark\.py step, and it lacks 'bfloat16'"):
        read_step(step, "bfloat16")
    with pytest.raises(ValueError, match=r"benchmark\.py scale"):
        read_call(step)
    with pytest.raises(ValueError, match="unreadable"):
        read_call(tmp_path / "none.json")


def test_the_command(capsys):
    assert main(["--measured", "small=0.05,0.02", "--call", "0.004", "--hospitals", "10"]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| small")]
    assert [row[2].strip() for row in rows] == ["float32", "int8+zstd"]
    # 10 hospitals with a batch of 2
    assert [row[3].strip() for row in rows] == ["1.00", "1.00"]
    assert main(["--measured", "tiny=1,1", "--call", "0.1"]) == 2
    assert "expected one of paper, small" in capsys.readouterr().err
    assert main(["--measured", "small=1", "--call", "0.1"]) == 2
    with pytest.raises(SystemExit):
        main(["--measured", "small=1,1"])
