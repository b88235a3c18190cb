"""Which site a case belongs to, and whether it trains or tests. Whole patients move together, always."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bundle.data.errors import DataError
from bundle.prepare.cases import CaseFiles

Patients = dict[str, list[CaseFiles]]


def assign_sites(
    cases: Sequence[CaseFiles],
    rule: str,
    *,
    sites: Mapping[str, str] | None = None,
    volumes: Mapping[str, float] | None = None,
    split: Mapping[str, str] | None = None,
    num_sites: int | None = None,
    alpha: float = 0.5,
    seed: int = 0,
) -> dict[str, str | None]:
    """Assign every case to a site.

    Rules:

    - ``institution``: where it was acquired, as `sites` or else the case's name tells.
    - ``table``: as `sites` tells. A test case may be of no site.
    - ``organ``: the organ of a tile. Cases of an organ without a training case are of no site.
    - ``size``: patients sorted by size (tumour volume, nuclei; the mean over a patient's cases), cut into `num_sites`
      consecutive subsets of equal numbers, ``size_01`` the smallest; after Chang et al., *Synthetic Learning*, CVPR
      2020 (https://arxiv.org/abs/2006.00080). With a `split`, the training patients are cut, and test patients go
      where their size falls.
    - ``dirichlet``: label skew. For every class (grade where several are known, else the tertile of size)
      the shares of ``site_01``... are drawn from Dir(`alpha`); after Hsu et al. 2019
      (https://arxiv.org/abs/1909.06335). A site without a training patient receives one of the largest site.
    - ``single``: all in the one site ``all``.

    Args:
        cases: all cases.
        rule: one of :data:`RULES`.
        sites: site (or institution) by case, from a table.
        volumes: size by case, as tumour volume or number of nuclei; for ``size`` and ``dirichlet``.
        split: ``"training"`` or ``"test"`` by case, if that is known before; None counts all as training.
        num_sites: number of sites, for ``size`` and ``dirichlet``.
        alpha: concentration > 0; small values give strong skew.
        seed: of the draws of ``dirichlet``.

    Returns:
        Site by case; None for test cases of no site.

    Raises:
        DataError: unknown rule, unknown institutions or organs, a patient in several sites, or more sites than
            patients.
    """
    if rule not in RULES:
        raise DataError(f"site rule {rule!r} is unknown, expected one of {', '.join(RULES)}")
    split = split or {case.case: "training" for case in cases}
    patients = group_by_patient(cases)
    assigned: dict[str, str | None]
    if rule in ("size", "dirichlet"):
        trained = [patient for patient, members in patients.items() if split[members[0].case] == "training"]
        if num_sites is None or num_sites < 1 or num_sites > len(trained):
            raise DataError(
                f"site rule {rule}: num_sites is {num_sites}, expected 1 to {len(trained)}, the number of training "
                "patients"
            )
        known = volumes or {}
        size = {p: float(np.mean([known[case.case] for case in members])) for p, members in patients.items()}
        if rule == "size":
            by_patient = _by_size(size, trained, num_sites)
        else:
            by_patient = _by_dirichlet(patients, size, trained, num_sites, alpha, seed)
        assigned = {case.case: by_patient[patient] for patient, members in patients.items() for case in members}
    else:
        assigned = RULES[rule](cases, sites or {}, split)
    _check_sites(patients, assigned, split)
    return assigned


def split_patients(
    cases: Sequence[CaseFiles], assigned: Mapping[str, str | None], test_fraction: float, seed: int = 0
) -> dict[str, str]:
    """Draw test patients at random, the same share of every site; every site keeps a training patient.

    Args:
        cases: all cases.
        assigned: site by case; cases of no site (None) test.
        test_fraction: share of a site's patients that test, in [0, 1), rounded to whole patients.
        seed: draws depend on it and on the name of the site only.

    Returns:
        ``"training"`` or ``"test"`` by case.

    Raises:
        DataError: `test_fraction` out of range.
    """
    if not 0 <= test_fraction < 1:
        raise DataError(f"test_fraction is {test_fraction}, expected 0 <= test_fraction < 1")
    result = {case.case: "test" if assigned[case.case] is None else "training" for case in cases}
    for site in sorted({site for site in assigned.values() if site is not None}):
        patients = group_by_patient([case for case in cases if assigned[case.case] == site])
        names = sorted(patients)
        count = min(round(test_fraction * len(names)), len(names) - 1)
        chosen = seeded_generator(seed, site).permutation(len(names))[:count]
        result |= {case.case: "test" for index in chosen for case in patients[names[index]]}
    return result


def check_split(cases: Sequence[CaseFiles], split: Mapping[str, str]) -> None:
    """A patient trains or tests, never both.

    Raises:
        DataError: names the patients and their cases.
    """
    problems = [
        f"patient {patient} is in training and in test ({', '.join(case.case for case in members)}), expected one"
        for patient, members in group_by_patient(cases).items()
        if len({split[case.case] for case in members}) > 1
    ]
    if problems:
        raise DataError.listing("train/test split", problems)


def group_by_patient(cases: Sequence[CaseFiles]) -> Patients:
    """Cases by patient, both in the order of their names."""
    groups = defaultdict(list)
    for case in sorted(cases, key=lambda case: (case.patient, case.case)):
        groups[case.patient].append(case)
    return dict(groups)


def _by_institution(cases: Sequence[CaseFiles], sites: Mapping[str, str], split: Mapping[str, str]) -> dict[str, str]:
    found = {case.case: sites.get(case.case) or case.institution for case in cases}
    unknown = [f"case {name}: its name tells no institution" for name, site in found.items() if site is None]
    if unknown:
        raise DataError.listing("site rule institution, expected --table with case and site", unknown)
    return {name: site for name, site in found.items() if site is not None}


def _by_table(cases: Sequence[CaseFiles], sites: Mapping[str, str], split: Mapping[str, str]) -> dict[str, str | None]:
    missing = [
        f"case {case.case} has no site" for case in cases if not sites.get(case.case) and split[case.case] == "training"
    ]
    if missing:
        raise DataError.listing("site rule table, expected --table with case and site", missing)
    return {case.case: sites.get(case.case) or None for case in cases}


def _by_organ(cases: Sequence[CaseFiles], sites: Mapping[str, str], split: Mapping[str, str]) -> dict[str, str | None]:
    organs = {case.case: sites.get(case.case) or case.organ for case in cases}
    unknown = [f"case {name}: its organ is not known" for name, organ in organs.items() if organ is None]
    if unknown:
        raise DataError.listing("site rule organ, expected --table with case and site", unknown)
    trained = {organ for name, organ in organs.items() if split[name] == "training"}
    return {name: organ if organ in trained else None for name, organ in organs.items()}


def _single(cases: Sequence[CaseFiles], sites: Mapping[str, str], split: Mapping[str, str]) -> dict[str, str]:
    return {case.case: "all" for case in cases}


def _by_size(size: Mapping[str, float], trained: Sequence[str], num_sites: int) -> dict[str, str]:
    subsets = np.array_split(sorted(trained, key=lambda patient: (size[patient], patient)), num_sites)
    assigned = {str(patient): index for index, subset in enumerate(subsets) for patient in subset}
    largest = [size[str(subset[-1])] for subset in subsets]
    for patient in size:
        if patient not in assigned:
            assigned[patient] = min(int(np.searchsorted(largest, size[patient])), num_sites - 1)
    return {patient: f"size_{index + 1:02d}" for patient, index in assigned.items()}


def _by_dirichlet(
    patients: Patients, size: Mapping[str, float], trained: Sequence[str], num_sites: int, alpha: float, seed: int
) -> dict[str, str]:
    if not alpha > 0:
        raise DataError(f"site rule dirichlet: alpha is {alpha}, expected a number above 0")
    rng = seeded_generator(seed, "dirichlet")
    classes = _classes(patients, size, trained)
    assigned: dict[str, int] = {}
    for label in sorted(set(classes.values())):
        shares = rng.dirichlet([alpha] * num_sites)
        # Training and test patients apart, so that both follow the same shares.
        for trains in (True, False):
            members = [p for p in sorted(classes) if classes[p] == label and (p in trained) is trains]
            cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
            for site, part in enumerate(np.split(rng.permutation(len(members)), cuts)):
                assigned |= {members[index]: site for index in part}
    held = [sorted(p for p in trained if assigned[p] == site) for site in range(num_sites)]
    for site in range(num_sites):
        if not held[site]:
            largest = max(held, key=len)
            moved = largest.pop(int(rng.integers(len(largest))))
            held[site].append(moved)
            assigned[moved] = site
    return {patient: f"site_{index + 1:02d}" for patient, index in assigned.items()}


def _classes(patients: Patients, size: Mapping[str, float], trained: Sequence[str]) -> dict[str, str]:
    grades = {patient: grade for patient, members in patients.items() if (grade := members[0].grade) is not None}
    if len(grades) == len(patients) and len(set(grades.values())) > 1:
        return grades
    thirds = np.quantile([size[patient] for patient in trained], [1 / 3, 2 / 3])
    return {patient: str(int(np.searchsorted(thirds, size[patient]))) for patient in patients}


def _check_sites(patients: Patients, assigned: Mapping[str, str | None], split: Mapping[str, str]) -> None:
    problems = []
    for patient, members in patients.items():
        places = sorted({assigned[case.case] or "no site" for case in members})
        if len(places) > 1:
            problems.append(f"patient {patient} is in {', '.join(places)}, expected all of a patient's cases in one")
    trained = {site for case, site in assigned.items() if split[case] == "training"}
    for site in sorted({site for site in assigned.values() if site is not None} - trained):
        problems.append(f"site {site} has test cases only, expected at least one training case")
    if problems:
        raise DataError.listing("sites", problems)


def seeded_generator(seed: int, name: str) -> np.random.Generator:
    """Draws that depend on (seed, name) only, whatever else is drawn before."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


RULES: dict[str, Any] = {
    "institution": _by_institution,
    "size": None,
    "table": _by_table,
    "dirichlet": None,
    "single": _single,
    "organ": _by_organ,
}
