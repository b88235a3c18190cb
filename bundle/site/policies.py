"""Which release policy holds at which site of a setting."""

from __future__ import annotations

from typing import Any

from bundle.data.datalist import DataList
from bundle.data.errors import DataError
from bundle.data.settings import members
from bundle.site import release
from bundle.site.release import ReleasePolicy

__all__ = ["policies_by_site"]


def policies_by_site(release_policy: Any, datalist: DataList, setting: str) -> dict[str, ReleasePolicy]:
    """
    Release policy by site of the setting.

    Args:
        release_policy: see :func:`bundle.site.release.policies_by_site`.

    Raises:
        PolicyError: for a policy that is none, or a site that there is not.
        DataError: when sites that one site stands for have different policies.
    """
    policies = release.policies_by_site(release_policy, datalist.sites)
    found = {}
    for name, sites in members(datalist, setting).items():
        if len({policies[site] for site in sites}) > 1:
            raise DataError(
                f"setting {setting}: one site stands for {', '.join(sites)}, whose release policies differ; "
                "give one release_policy for all"
            )
        found[name] = policies[sites[0]]
    return found
