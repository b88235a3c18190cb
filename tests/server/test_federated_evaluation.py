"""The server's part of an evaluation: what is pooled, and what becomes of the others when one fails."""

import json
import pickle
from statistics import mean, stdev

import pytest
import torch
from torch import nn

from bundle.server import FederatedEvaluation, LocalScoring, Outcome
from bundle.server.evaluation import matrix, pooled, read_segmenter
from bundle.site.release import ReleaseRefused, Sums
from bundle.wire.messages import Scores
from bundle.wire.weights import packed_digest

CASES = {"A": [0.1, 0.4, 0.7], "B": [0.9, 0.2]}


def network():
    torch.manual_seed(0)
    return nn.Linear(2, 1).state_dict()


def says(name, values=None, metric="dice", **changed):
    """A site with such scores of its cases."""

    def score(request):
        sums = Sums.of(dict(enumerate(CASES[name] if values is None else values)))
        said = {"counts": sums.count, "sums": sums.total, "squares": sums.squares}
        numbers = {field: {metric: value} for field, value in said.items()}
        about = {"site": name, "weights": packed_digest(request.weights), "values": torch.empty(0)}
        return Scores(**{**about, **numbers, **changed})

    return score


def fails(error):
    def score(request):
        raise error

    return score


def segmenter(folder, name="segmenter.pt", weights=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network() if weights is None else weights, path)
    return path


def evaluate(tmp_path, sites, segmenters=None):
    path = tmp_path / "federated_evaluation.json"
    evaluation = FederatedEvaluation(LocalScoring(sites), network(), ["dice", "hd95"], path, {"key_metric": "dice"})
    results = evaluation.run({"one": segmenter(tmp_path)} if segmenters is None else segmenters)
    assert json.loads(path.read_text(encoding="utf-8")) == results
    assert sorted(p.name for p in tmp_path.glob("*.json")) == [path.name]
    return results


def test_the_pooled_mean_is_that_over_all_cases(tmp_path):
    results = evaluate(tmp_path, {site: says(site) for site in "AB"})
    every = CASES["A"] + CASES["B"]
    found = results["segmenters"]["one"]
    assert found["pooled"]["dice"]["mean"] == pytest.approx(mean(every), abs=1e-15)
    assert found["pooled"]["dice"]["std"] == pytest.approx(stdev(every), abs=1e-12)
    assert found["pooled"]["dice"]["count"] == 5
    assert found["sites"]["B"]["dice"] == {"count": 2, "sum": 1.1, "sum_of_squares": pytest.approx(0.85)}
    assert found["failures"] == {}
    assert results["sites"] == ["A", "B"]
    assert results["wire"]["messages_to_sites"] == results["wire"]["messages_from_sites"] == 2


def test_one_case_has_no_spread_and_equal_ones_none():
    assert pooled({"A": {"dice": {"count": 1, "sum": 0.5, "sum_of_squares": 0.25}}})["dice"]["std"] is None
    assert pooled({"A": {"dice": {"count": 3, "sum": 0.3, "sum_of_squares": 0.03}}})["dice"]["std"] < 1e-8


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        (fails(ReleaseRefused("too few held-out cases")), "refused: too few held-out cases"),
        (fails(OSError("the disk is gone")), "the disk is gone"),
        (fails(RuntimeError("CUDA\nout of memory")), "CUDA"),
        (says("A", metric="age"), "an unknown metric: 'age', expected some of dice, hd95"),
        (says("A", sums={"dice": float("nan")}), "sum nan"),
        (says("A", site="C"), "is of site 'C'"),
        (says("A", weights="0" * 64), "scores of other weights"),
        (says("A", counts={"dice": 1.5}), "expected dict"),
    ],
)
def test_a_site_that_fails_leaves_the_others_their_results(tmp_path, site, reason):
    found = evaluate(tmp_path, {"A": site, "B": says("B")})["segmenters"]["one"]
    assert reason in found["failures"]["A"]
    assert found["sites"].keys() == {"B"}
    assert found["pooled"]["dice"]["mean"] == mean(CASES["B"])


def test_a_site_that_is_away_is_said(tmp_path):
    class Away(LocalScoring):
        sites = ("A", "B")

        def ask(self, requests):
            found = super().ask({"A": requests["A"]})
            return Outcome(found.messages, {"B": "no answer within 60 s"})

    path = tmp_path / "r.json"
    results = FederatedEvaluation(Away({"A": says("A")}), network(), ["dice"], path).run({"one": segmenter(tmp_path)})
    assert results["segmenters"]["one"]["failures"] == {"B": "no answer within 60 s"}
    table = matrix(results, "dice").splitlines()
    assert table[1].split() == ["trained", "at", "/", "scored", "at", "A", "B", "all", "cases"]
    assert table[2].split() == ["one", "0.400", "(n=3)", "-", "0.400", "(n=3)"]
    assert table[3] == "B, one: no answer within 60 s"


class Bomb:
    def __reduce__(self):
        return (print, ("ran",))


def bad_files(folder):
    (folder / "torn.pt").write_bytes(segmenter(folder).read_bytes()[:200])
    (folder / "code.pt").write_bytes(pickle.dumps(Bomb()))
    (folder / "huge.pt").write_bytes(b"\0" * (3 * 2**20))
    segmenter(folder, "other.pt", nn.Linear(3, 1).state_dict())
    segmenter(folder, "nan.pt", {**network(), "bias": torch.tensor([float("nan")])})
    segmenter(folder, "list.pt", [1, 2])
    return {name: folder / f"{name}.pt" for name in ("torn", "code", "huge", "other", "nan", "list", "absent")}


def test_a_segmenter_that_cannot_be_sent_leaves_the_others_their_results(tmp_path, capsys):
    asked = []

    def score(request):
        asked.append(request.site)
        return says("A")(request)

    bad = bad_files(tmp_path)
    results = evaluate(tmp_path, {"A": score}, {**bad, "good": segmenter(tmp_path)})
    assert asked == ["A"]
    assert capsys.readouterr().out == ""
    said = {name: results["segmenters"][name]["failure"] for name in bad}
    assert all(str(path) in said[name] for name, path in bad.items())
    assert "cannot be read as weights" in said["torn"]
    assert "cannot be read as weights" in said["code"]
    assert "bytes, expected at most" in said["huge"]
    assert "weight is float32 1×3, expected float32 1×2" in said["other"]
    assert "not finite" in said["nan"]
    assert "holds a list" in said["list"]
    assert "no such file" in said["absent"]
    assert results["segmenters"]["good"]["pooled"]["dice"]["count"] == 3
    assert "no site, torn:" in matrix(results, "dice")


def test_a_packed_bundles_folder_is_a_segmenter(tmp_path):
    segmenter(tmp_path / "bundle", "models/model.pt")
    assert read_segmenter(tmp_path / "bundle", network()).keys() == {"weight", "bias"}


def test_single_cases_are_kept_where_they_come(tmp_path):
    values = torch.tensor([[0.5, float("nan"), 1.0]])

    def score(request):
        return Scores("A", packed_digest(request.weights), {"dice": 2}, {"dice": 1.5}, {"dice": 1.25}, values)

    found = evaluate(tmp_path, {"A": score})["segmenters"]["one"]
    assert found["per_case"] == {"A": {"dice": [0.5, None, 1.0]}}


def test_nothing_to_score(tmp_path):
    with pytest.raises(ValueError, match="there are no segmenters"):
        evaluate(tmp_path, {"A": says("A")}, {})
