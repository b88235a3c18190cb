"""A site that scores: what it lets out, what it writes down, and what it refuses."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bundle.site import ScoringSite
from bundle.site.release import POLICIES, LedgerError, ReleasePolicy, ReleaseRefused, ScoreGate, summarize, verify
from bundle.wire.guards import Violation
from bundle.wire.messages import ScoreRequest
from bundle.wire.weights import pack_weights, packed_digest


class Evaluator:
    """Scores every case with the network's only weight, and the first case with none of the second metric."""

    def __init__(self, network, cases):
        self.network, self.cases, self.runs = network, cases, 0
        self.state = SimpleNamespace(case_metrics={})

    def run(self):
        self.runs += 1
        value = self.network.weight.item()
        dice = dict.fromkeys(self.cases, value)
        hd95 = {case: None if place == 0 else value * place for place, case in enumerate(self.cases)}
        self.state.case_metrics = {"dice": {"per_case": dice}, "hd95": {"per_case": hd95}}


def make(cases=5, ledger=None, policy=POLICIES["guarded"], **rules):
    network = nn.Linear(1, 1, bias=False)
    evaluator = Evaluator(network, [f"patient_{place}" for place in range(cases)])
    gate = ScoreGate(policy, "A", ledger, "scores of segmenters")
    return ScoringSite(lambda: evaluator, network.state_dict(), "A", gate, cases, **rules), evaluator


def request(value=0.5, site="A"):
    return ScoreRequest(site, pack_weights({"weight": torch.tensor([[value]])}))


def entries(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_sums_and_counts_over_enough_cases_leave_and_nothing_else():
    site, _ = make()
    said = site.score(request())
    assert (said.counts, said.sums, said.squares) == ({"dice": 5}, {"dice": 2.5}, {"dice": 1.25})
    assert said.values.numel() == 0
    site, _ = make(min_cases=4)
    assert site.score(request()).sums == {"dice": 2.5, "hd95": 5.0}


def test_every_segmenter_is_scored_with_its_own_weights():
    site, evaluator = make()
    assert [site.score(request(value)).sums["dice"] for value in (0.5, 0.25, 0.5)] == [2.5, 1.25, 2.5]
    assert evaluator.runs == 3


def test_single_cases_leave_where_the_owner_says_so_and_have_no_names(tmp_path):
    site, _ = make(min_cases=4, per_case=True, ledger=tmp_path / "A.jsonl")
    values = site.score(request()).values
    assert torch.equal(values[0], torch.full((5,), 0.5))
    assert torch.equal(values[1].nan_to_num(-1), torch.tensor([-1, 0.5, 1.0, 1.5, 2.0]))
    parts = entries(tmp_path / "A.jsonl")[-1]["parts"]
    assert [part["what"] for part in parts] == ["sums of scores", "scores of single cases"]
    assert "patient_" not in (tmp_path / "A.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("rules", [{}, {"per_case": True}])
def test_below_min_cases_nothing_is_computed_and_the_refusal_names_nothing(rules, tmp_path):
    path = tmp_path / "A.jsonl"
    site, evaluator = make(cases=4, ledger=path, **rules)
    with pytest.raises(ReleaseRefused, match=r"^too few held-out cases to let scores of them out .min_cases.$"):
        site.score(request())
    assert evaluator.runs == 0
    site.gate.close()
    kinds = [entry["kind"] for entry in entries(path)]
    assert set(kinds) <= {"start", "refusal"}


def test_no_metric_of_enough_cases_is_refused_as_well():
    site, evaluator = make()
    evaluator.run = lambda: setattr(
        evaluator.state, "case_metrics", {"hd95": {"per_case": {"a": 1.0, "b": None, "c": 2.0}}}
    )
    with pytest.raises(ReleaseRefused, match="too few held-out cases"):
        site.score(request())


def test_the_ledger_says_which_weights_how_many_cases_and_what_left(tmp_path):
    path = tmp_path / "A.jsonl"
    site, _ = make(cases=6, ledger=path)
    first, second = request(0.5), request(0.25)
    site.score(first)
    site.score(second)
    site.gate.close()
    _, one, two = entries(path)
    assert (one["kind"], one["cases"], one["min_cases"]) == ("scores", 6, 5)
    assert one["weights"] == packed_digest(first.weights) != two["weights"] == packed_digest(second.weights)
    assert one["parts"] == [{"what": "sums of scores", "names": ["dice", "hd95"], "bytes": 48}]
    assert verify(path).whole
    page = summarize(path)
    assert "scores of segmenters on held-out cases 2" in page
    assert "Scores: sums over 6 cases of 2 segmenters" in page


def test_what_cannot_be_written_down_does_not_leave(tmp_path):
    site, _ = make(ledger=tmp_path / "A.jsonl")
    site.score(request())
    (tmp_path / "A.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(LedgerError, match="was changed, replaced or removed"):
        site.score(request())


def test_a_budget_covers_no_scores():
    site, _ = make(policy=POLICIES["private"])
    with pytest.raises(ReleaseRefused, match="its release policy, private, lets no scores out"):
        site.score(request())
    clipped = ReleasePolicy.make({"policy": "private", "epsilon": float("inf")})
    assert make(policy=clipped)[0].score(request()).counts == {"dice": 5}


def test_weights_of_another_network_are_refused_and_the_next_are_scored():
    site, _ = make()
    for wrong in ({"weight": torch.ones(2, 1)}, {"weight": torch.full((1, 1), float("nan"))}, {"bias": torch.ones(1)}):
        with pytest.raises(ReleaseRefused, match="weights"):
            site.score(ScoreRequest("A", pack_weights(wrong)))
    assert site.score(request()).sums == {"dice": 2.5}
    with pytest.raises(Violation, match="is for site 'B'"):
        site.score(request(site="B"))


def test_min_cases_is_at_least_one():
    with pytest.raises(ValueError, match="min_cases: expected"):
        make(min_cases=0)


def test_who_runs_the_site_sees_what_it_would_say(tmp_path):
    site, _ = make()
    torch.save({"weight": torch.tensor([[0.5]])}, tmp_path / "segmenter.pt")
    said = json.loads(site.would_say(tmp_path / "segmenter.pt"))
    assert (said["sums"], said["values"]) == ({"dice": 2.5}, [])


def test_after_an_evaluation_that_failed_another_evaluator_is_made():
    made = []

    def evaluator():
        made.append(Evaluator(nn.Linear(1, 1, bias=False), "abcde"))
        return made[-1]

    site = ScoringSite(evaluator, nn.Linear(1, 1, bias=False).state_dict(), "A", ScoreGate(POLICIES["guarded"], "A"), 5)
    site.score(request())
    made[0].run = lambda: (_ for _ in ()).throw(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        site.score(request())
    assert site.score(request(0.25)).sums["dice"] == 1.25
    assert len(made) == 2
