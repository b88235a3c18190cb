"""What a site lets out: its release policy, noise and its accounting, its ledger; the attacks that test them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bundle.site.release.accountant import calibrate, epsilon
from bundle.site.release.chain import LedgerError, Verification, check_head, verify
from bundle.site.release.policy import DEFAULT, POLICIES, PolicyError, ReleasePolicy, policies_by_site
from bundle.site.release.refusal import ReleaseRefused
from bundle.site.release.scores import Sums, releasable
from bundle.site.release.summary import summarize

__all__ = [
    "DEFAULT",
    "POLICIES",
    "LedgerError",
    "PolicyError",
    "ReleaseGate",
    "ReleaseLedger",
    "ReleasePolicy",
    "ReleaseRefused",
    "ScoreGate",
    "Sums",
    "Verification",
    "WeightsGate",
    "calibrate",
    "check_head",
    "clip_per_example",
    "epsilon",
    "make_gates",
    "policies_by_site",
    "privatize",
    "releasable",
    "release_sensitivity",
    "summarize",
    "tensor_digest",
    "verify",
]

# imported when asked for: to read a ledger takes neither torch nor a system that can lock files
_LATER = {
    "ReleaseGate": "gate",
    "ReleaseLedger": "ledger",
    "ScoreGate": "score_gate",
    "WeightsGate": "weights_gate",
    "clip_per_example": "noise",
    "make_gates": "gates",
    "privatize": "noise",
    "release_sensitivity": "noise",
    "tensor_digest": "digests",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
