"""The settings of an experiment: words that the server and the sites share, and what each is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = [
    "GROUPS",
    "KINDS",
    "OWN",
    "RELEASED",
    "Kind",
    "all_settings",
    "averaged_sites",
    "check_gan_setting",
    "check_generates",
    "generates",
    "generator_setting",
    "image_sources",
    "kind_of",
    "names",
    "needed_before",
    "own_shares",
    "paints",
    "real_sites",
    "trains_generator",
]

RELEASED = "released by site"
OWN = "bank of the server"
"""Where the condition of a synthetic image came from, as its data list says it."""


@dataclass(frozen=True)
class Kind:
    """
    What the segmenter of a kind of settings is trained on. A site of the setting KIND/SITE is *its* site.

    Args:
        per_site: whether there is one setting for every site, KIND/SITE.
        generator: whose images a generator of its own learns from: ``sites``, each by itself, ``others``, the same but
            for its site, ``pooled``, in one place, or ``own``, its site's alone. None: it has none.
        real: whose real images the segmenter sees: ``all``, ``own`` or ``others``. None: nobody's.
        synthetic: kinds whose synthetic images it sees as well; those of every site where they are per site. A kind
            with a generator of its own sees that one's.
        averaged: whether a segmenter is trained at every site, and their weights are averaged.
        proximal: whether FedProx holds those segmenters near their average.
        augmented: whether ``strong_segmenter_augmentation`` changes the images.
        fine_tuned: whether synthetic images come first and real ones last, and not both in every batch.
        paints: what paints its synthetic images in the place of a generator, on the label maps that AsynDGAN's sites
            released: ``random`` intensities, or ``teachers``, whose images or weights left those sites as well. None:
            nothing.
        modalities: which modalities its segmenter reads, where sites lack some: ``all``, which none of the sites whose
            real images it sees may lack, ``filled``, the same with black images in the place of those that are missing,
            ``common`` to all sites, or its site's ``own``.
    """

    per_site: bool = False
    generator: str | None = None
    real: str | None = None
    synthetic: tuple[str, ...] = ()
    averaged: bool = False
    proximal: bool = False
    fine_tuned: bool = False
    augmented: bool = False
    paints: str | None = None
    modalities: str = "all"


KINDS: dict[str, Kind] = {
    "real_all": Kind(real="all"),
    "real_all_common": Kind(real="all", modalities="common"),
    "real_all_filled": Kind(real="all", modalities="filled"),
    "real_subset": Kind(per_site=True, real="own", modalities="own"),
    "real_subset_augmented": Kind(per_site=True, real="own", modalities="own", augmented=True),
    "real_subset_plus_asyndgan": Kind(per_site=True, real="own", modalities="own", synthetic=("asyndgan",)),
    "asyndgan_then_real_subset": Kind(
        per_site=True, real="own", modalities="own", synthetic=("asyndgan",), fine_tuned=True
    ),
    "fedavg": Kind(real="all", averaged=True),
    "fedprox": Kind(real="all", averaged=True, proximal=True),
    "syn_all": Kind(generator="pooled"),
    "syn_subset": Kind(per_site=True, generator="own"),
    "syn_subset_pooled": Kind(synthetic=("syn_subset",)),
    "labels_only": Kind(paints="random"),
    "teachers_only": Kind(paints="teachers"),
    "asyndgan": Kind(generator="sites"),
    "leave_out_real_all": Kind(per_site=True, real="others"),
    "leave_out_fedavg": Kind(per_site=True, real="others", averaged=True),
    "leave_out": Kind(per_site=True, generator="others"),
}
"""Kinds of settings by name, in the order of a table."""

GROUPS: dict[str, tuple[str, ...]] = {
    "paper": ("real_all", "real_subset", "syn_all", "asyndgan"),
    "gain": tuple(
        kind
        for kind in KINDS
        if kind not in ("syn_all", "syn_subset", "teachers_only", "real_all_common", "real_all_filled")
    ),
    "modalities": ("real_all_common", "real_all_filled", "real_subset", "asyndgan"),
}
"""
Names for several kinds: the paper's table, what a hospital gains beside what else it could do, and what there is where
hospitals lack modalities.
"""


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
        for name, kind in KINDS.items()
        if name in kinds
        for setting in ([f"{name}/{site}" for site in sites] if kind.per_site else [name])
    ]


def kind_of(setting: str) -> Kind:
    """
    Raises:
        ValueError: for a setting of no kind there is.
    """
    name = setting.partition("/")[0]
    if name not in KINDS:
        raise ValueError(f"unknown setting {setting!r}: expected one of {names()}")
    return KINDS[name]


def names(kinds: Iterable[str] | None = None) -> str:
    """How settings of some kinds are called, in words; None for all kinds."""
    return ", ".join(
        f"{name}/SITE" if KINDS[name].per_site else name for name in KINDS if kinds is None or name in kinds
    )


def trains_generator(setting: str) -> bool:
    """Whether there is a generator of its own in a setting."""
    return kind_of(setting).generator is not None


def paints(setting: str) -> bool:
    """Whether synthetic images are painted on label maps, by no generator."""
    return kind_of(setting).paints is not None


def generates(setting: str) -> bool:
    """Whether a setting has a synthetic data set of its own."""
    return trains_generator(setting) or paints(setting)


def generator_setting(setting: str) -> str:
    """The setting whose training leaves the conditions that a setting's synthetic images are drawn on."""
    return "asyndgan" if paints(setting) else setting


def image_sources(setting: str, sites: Iterable[str]) -> list[str]:
    """The settings whose synthetic images the segmenter of a setting sees, itself among them where it has its own."""
    others = all_settings(kind_of(setting).synthetic, sites)
    return [setting] if generates(setting) else others


def needed_before(setting: str, sites: Iterable[str]) -> list[str]:
    """The other settings whose generator has to be trained, and have generated, before a setting's own stages."""
    return (
        ["asyndgan"] if paints(setting) else [source for source in image_sources(setting, sites) if source != setting]
    )


def real_sites(setting: str, sites: Iterable[str]) -> list[str]:
    """The sites whose real images the segmenter of a setting sees."""
    whose, its_site = kind_of(setting).real, setting.partition("/")[2]
    sees = {"all": lambda site: True, "own": lambda site: site == its_site, "others": lambda site: site != its_site}
    return [site for site in sorted(sites) if whose and sees[whose](site)]


def averaged_sites(setting: str, sites: Iterable[str]) -> list[str]:
    """The sites whose segmenters are averaged in a setting; none where nothing is averaged."""
    return real_sites(setting, sites) if kind_of(setting).averaged else []


def own_shares(setting: str, own_share: float, fine_tuning_from: int) -> list[tuple[int, float]] | None:
    """
    How much of a batch is the site's own real images, the others being synthetic, from a step on.

    Args:
        setting: any.
        own_share: of a batch where it is mixed, in [0, 1].
        fine_tuning_from: step, from 0, from which a setting that is fine-tuned sees its own images alone.

    Returns:
        (first step, share) in the order of steps; None for settings that see one kind of images.
    """
    kind = kind_of(setting)
    if not (kind.real and kind.synthetic):
        return None
    return [(0, 0.0), (fine_tuning_from, 1.0)] if kind.fine_tuned else [(0, own_share)]


def check_gan_setting(setting: str) -> str:
    """
    Returns:
        ``setting``: one that trains a generator.

    Raises:
        ValueError: for a setting that trains no generator.
    """
    return _check(trains_generator, setting, "trains no generator")


def check_generates(setting: str) -> str:
    """
    Returns:
        ``setting``: one with a synthetic data set of its own.

    Raises:
        ValueError: for a setting without.
    """
    return _check(generates, setting, "has no synthetic data set of its own")


def _check(has: Callable[[str], bool], setting: str, lacks: str) -> str:
    if not has(setting):
        raise ValueError(f"setting {setting!r} {lacks}: expected {names([name for name in KINDS if has(name)])}")
    return setting
