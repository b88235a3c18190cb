"""What a training is going to cost in ε, told before anything runs."""

from dataclasses import replace

import pytest

from bundle.audit import plan as plans
from bundle.audit.plan import Plan, explain
from bundle.cli.main import main
from bundle.site.release.sampled import sampled_epsilon, sampled_noise


def test_a_large_hospital_is_told_its_noise_and_that_it_may_begin(capsys):
    words = ["--patients", "1000", "--steps", "1500", "--epsilon", "4", "--patients_per_update", "256"]
    assert main(["audit", "plan", *words, "--weights", "2825"]) == 0
    said = capsys.readouterr().out
    assert "1,000 patients, 256 of them for an update (sampling rate 0.256), 1,500 updates, epsilon 4" in said
    # σ·√2825/256 of a multiplier near 11.5
    assert "noise multiplier 11.5" in said
    assert "2.39 clipping bounds long" in said
    assert "gradient_noise: 5,360 clipping bounds" in said
    assert "within max_noise, 10" in said


def test_a_small_one_is_told_what_it_would_take(capsys):
    assert main(["audit", "plan", "--patients", "60", "--steps", "1500", "--epsilon", "2", "--weights", "2825"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "above max_noise, 10: a site refuses such a training" in lines[-5]
    assert [line.split()[-1] for line in lines[-4:-2]] == ["patients", "steps"]
    patients, steps = (int(line.split()[1].replace(",", "")) for line in lines[-4:-2])
    epsilon = float(lines[-2].split()[-1])
    for more in ({"patients": patients}, {"steps": steps}, {"epsilon": epsilon}):
        enough = Plan(**{"patients": 60, "steps": 1500, "epsilon": 2.0, "weights": 2825} | more)
        assert enough.bounds <= enough.max_noise
    assert "more patients_per_update" in lines[-1]


def test_what_is_expected_lies_between_what_was_measured(monkeypatch):
    monkeypatch.setattr(plans, "MEASURED", ((0.0, 0.8), (4.0, 0.6), (40.0, 0.2)))
    said = " ".join(explain(Plan(1000, 100, 4.0, weights=2825)))
    assert "0.80 with 0 bounds and 0.60 with 4 bounds" in said or "0.60 with 4 bounds and 0.20 with 40 bounds" in said
    monkeypatch.setattr(plans, "MEASURED", ((0.0, 0.8),))
    assert "nothing was measured with more than 0 clipping bounds" in " ".join(explain(Plan(1000, 100, 4.0)))


def test_a_teacher_is_counted_in(capsys):
    """Noise by two ways: as a site would plan it, and by what so many updates of it add up to."""
    words = ["--patients", "1000", "--steps", "150", "--epsilon", "4", "--weights", "2697", "--teacher_steps", "60"]
    assert main(["audit", "plan", *words, "--patients_per_update", "64"]) == 0
    said = capsys.readouterr().out
    plan = Plan(1000, 150, 4.0, weights=2697, patients_per_update=64, teacher_steps=60)
    assert plan.noise == sampled_noise(4.0, 1e-5, 0.064, 210) > replace(plan, teacher_steps=0).noise
    assert 3.99 < sampled_epsilon(plan.noise, 0.064, 210, 1e-5) <= 4.0
    assert plan.teacher_bounds == pytest.approx(plan.noise * 113**0.5 / 64)
    assert replace(plan, teacher_steps=0).teacher_bounds == 0
    assert "210 updates, epsilon 4" in said
    assert f"60 of them are of a teacher of 113 weights, on which the noise is {plan.teacher_bounds:.3g}" in said
    assert "That was without a teacher." in said
    assert "within max_noise" in said


def test_a_teacher_that_is_too_large_is_named_and_told_how_small_it_would_have_to_be(capsys):
    words = ["--patients", "100", "--steps", "150", "--epsilon", "4", "--weights", "2697"]
    teacher = ["--teacher_steps", "60", "--teacher_weights", "200000"]
    assert main(["audit", "plan", *words, *teacher]) == 0
    said = capsys.readouterr().out
    assert "on the teacher above max_noise, 10: a site refuses" in said
    fewest = int(said.split("- a teacher of ")[1].split()[0].replace(",", ""))
    plan = Plan(100, 150, 4.0, weights=2697, teacher_steps=60, teacher_weights=fewest)
    assert plan.worst <= plan.max_noise < replace(plan, teacher_weights=fewest + 2).worst


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--patients", "0"], "--patients: expected at least 1, got 0"),
        (["--teacher_steps", "-1"], "--teacher_steps: expected at least 0"),
        (["--teacher_weights", "0"], "--teacher_weights: expected at least 1"),
        (["--steps", "-1"], "--steps: expected at least 1"),
        (["--epsilon", "inf"], "--epsilon: expected a finite number above 0"),
        (["--epsilon", "0"], "--epsilon: expected a finite number above 0"),
        (["--patients_per_update", "9"], "a sampling rate above 1: --patients_per_update 9 of 8 patients"),
    ],
)
def test_numbers_that_cannot_be_are_refused_in_words(capsys, words, expected):
    given = ["audit", "plan", "--patients", "8", "--steps", "10", "--epsilon", "4", *words]
    assert main(given) != 0
    assert expected in capsys.readouterr().err
