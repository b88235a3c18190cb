"""What left a site so far, added up from its ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from bundle.site.release.budget import UPDATE, Budget, SampledBudget, make_budget
from bundle.site.release.policy import ReleasePolicy

__all__ = ["Released", "Taught", "parts"]

TEACHER = "teacher"
"""Of which network an update is, where it is not the critic; and the kind of the entry of its weights' release."""


@dataclass
class Taught:
    """
    A teacher whose updates got noise.

    Attributes:
        training: which one, as the ledger calls it.
        rate: q of its updates.
        updates: how many.
        first: number of the first of them in the ledger.
        noise: multiplier σ of each; 0 for none.
        weights: digest of those that left; empty where none did.
    """

    training: str
    rate: float
    updates: int
    first: int
    noise: float
    weights: str = ""


@dataclass
class Released:
    """
    Args:
        budget: ε, and what of it is spent.
        issued: how often each sample was issued.
        releases: image gradients of a batch.
        answers: digests of the answers that left: the same bytes again are no new release.
        secrets: commitments to secrets by which label maps were deformed or drawn.
        folds: of every patient that was ever cut into one, by the patient's digest.
        fold_count: how many folds there are; 0 where no patient was cut into one.
        taught: teachers whose updates got noise, by the number of the first of these.
    """

    budget: Budget | SampledBudget
    issued: Counter = field(default_factory=Counter)
    releases: int = 0
    answers: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)
    folds: dict[str, int] = field(default_factory=dict)
    fold_count: int = 0
    taught: dict[int, Taught] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]], policy: ReleasePolicy) -> Released:
        """As the entries of a ledger tell."""
        found = cls(make_budget(policy))
        for entry in entries:
            found.issued.update(entry.get("samples", ()))
            # a refusal among them may be of a step that failed
            if entry["kind"] in ("reply", "refusal", UPDATE):
                found.budget.add(entry)
            if entry["kind"] == "reply":
                found.releases += 1
                found.answers.add(entry.get("answer", ""))
            if entry["kind"] == "folds":
                found.fold_count = entry["count"]
                found.folds |= entry["patients"]
            if entry["kind"] == UPDATE and entry.get("of") == TEACHER:
                found.teach(entry)
            if entry["kind"] == TEACHER:
                found.taught[entry["first"]].weights = entry["weights"]
            if "secret" in entry:
                found.secrets.add(entry["secret"])
        return found

    def teach(self, entry: Mapping[str, Any]) -> None:
        """Note the updates of a teacher."""
        rate, noise = entry["sampling_rate"], entry["noise_multiplier"]
        made = Taught(entry["training"], rate, entry["updates"], entry["first"], noise)
        self.taught[made.first] = made

    def taught_in(self, training: str, rate: float, updates: int) -> Taught | None:
        """The last teacher of a training that was updated so; None where there is none."""
        asked = training, rate, updates
        same = [one for one in self.taught.values() if (one.training, one.rate, one.updates) == asked]
        return same[-1] if same else None


def parts(tensors: Mapping[str, torch.Tensor], losses: Mapping[str, float], origin: str) -> list[dict[str, Any]]:
    """What is in a release, for its entry: every tensor, the losses; ``origin`` is of the conditions."""
    held = [
        {
            "what": what,
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "bytes": tensor.numel() * tensor.element_size(),
        }
        | ({"origin": origin} if what == "conditions" else {})
        for what, tensor in tensors.items()
    ]
    return held + ([{"what": "losses", "names": sorted(losses), "bytes": 8 * len(losses)}] if losses else [])
