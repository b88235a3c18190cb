"""The settings of an experiment: words that the server and the sites share."""

from __future__ import annotations

__all__ = ["GAN_SETTINGS", "check_gan_setting"]

GAN_SETTINGS = ("syn_all", "asyndgan")
"""The settings that train a generator."""


def check_gan_setting(setting: str) -> str:
    """
    Returns:
        ``setting``, one of ``GAN_SETTINGS``.

    Raises:
        ValueError: for a setting that trains no generator.
    """
    if setting not in GAN_SETTINGS:
        raise ValueError(f"setting {setting!r} trains no generator: expected {' or '.join(GAN_SETTINGS)}")
    return setting
