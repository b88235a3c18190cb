"""The settings of an experiment: words that the server and the sites share."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["KINDS", "OWN", "RELEASED", "all_settings", "check_gan_setting", "trains_generator"]

KINDS = ("real_all", "real_subset", "syn_all", "syn_subset", "asyndgan")
"""Kinds of settings, in the order of a table. Those called ``_subset`` are one setting for every site: KIND/SITE."""
RELEASED = "released by site"
OWN = "bank of the server"
"""Where the condition of a synthetic image came from, as its data list says it."""
_GENERATING = ("syn_all", "syn_subset", "asyndgan")


def all_settings(kinds: Iterable[str], sites: Iterable[str]) -> list[str]:
    """
    The settings of some kinds, in the order of :data:`KINDS`.

    Raises:
        ValueError: for an unknown kind.
    """
    kinds, sites = list(kinds), sorted(sites)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"unknown kind of setting {unknown[0]!r}: expected some of {', '.join(KINDS)}")
    return [
        setting
        for kind in KINDS
        if kind in kinds
        for setting in ([f"{kind}/{site}" for site in sites] if kind.endswith("_subset") else [kind])
    ]


def trains_generator(setting: str) -> bool:
    """Whether there is a generator, and a synthetic data set, in a setting."""
    return setting.partition("/")[0] in _GENERATING


def check_gan_setting(setting: str) -> str:
    """
    Returns:
        ``setting``: ``syn_all``, ``syn_subset/SITE`` or ``asyndgan``.

    Raises:
        ValueError: for a setting that trains no generator.
    """
    if not trains_generator(setting):
        raise ValueError(f"setting {setting!r} trains no generator: expected syn_all, syn_subset/SITE or asyndgan")
    return setting
