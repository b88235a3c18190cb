"""The hospital: its images, its discriminator, its checkpoints, and its only way out, :mod:`bundle.site.release`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "Critic",
    "DeformedSamples",
    "DrawnSamples",
    "FoldedCritic",
    "Folds",
    "Patients",
    "PrivateCritic",
    "PrivateTeacher",
    "ScoringSite",
    "Site",
    "SiteStore",
    "Teacher",
    "critics_of",
    "make_sites",
    "stored_critics",
]

# imported when asked for: to read a ledger, bundle.site.release, does not take torch
_LATER = {
    "Critic": "critic",
    "DeformedSamples": "samples",
    "DrawnSamples": "samples",
    "FoldedCritic": "folds",
    "Folds": "folds",
    "Patients": "patients",
    "PrivateCritic": "private_critic",
    "PrivateTeacher": "private_teacher",
    "ScoringSite": "scoring",
    "Site": "site",
    "SiteStore": "store",
    "Teacher": "teacher",
    "critics_of": "earlier",
    "make_sites": "sites",
    "stored_critics": "earlier",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
