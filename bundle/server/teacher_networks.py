"""The regression networks that sites trained with noise, and whose weights they let out, as files at the server."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from bundle.files import atomic_path, below
from bundle.networks import for_image_channels
from bundle.seeding import seeded
from bundle.wire.guards import Violation
from bundle.wire.weights import unpack_weights

__all__ = ["TeacherNetworks", "weights_file"]


def weights_file(folder: str | PathLike, site: str) -> Path:
    """Where a site's are, in a folder of :class:`TeacherNetworks`."""
    return Path(below(folder, f"{site}.safetensors"))


class TeacherNetworks:
    """
    One file of safetensors a site, ``SITE.safetensors``.

    Args:
        folder: of the files; made when there is one to keep.
        network: makes R, from conditions B×X×H×W to images B×C×H×W in [-1, 1], as sites make it; in a config a
            component with ``_mode_: callable``.
        image_channels: C of a site that has all modalities. Sites that lack some have an R without their channels.
    """

    def __init__(self, folder: str | PathLike, network: Callable[[], torch.nn.Module], image_channels: int = 1) -> None:
        self.folder = Path(folder)
        self.image_channels = image_channels
        self._network = network
        self._made: dict[tuple[str, int], torch.nn.Module] = {}

    def __contains__(self, site: str) -> bool:
        return weights_file(self.folder, site).is_file()

    def any(self) -> bool:
        """Whether there is one of any site."""
        return bool(self.sites())

    def sites(self) -> list[str]:
        """Names of those that there is one of, sorted."""
        return sorted(path.name.removesuffix(".safetensors") for path in self.folder.glob("*.safetensors"))

    def keep(self, site: str, packed: torch.Tensor) -> None:
        """
        Args:
            site: whose they are.
            packed: weights as they came (:func:`bundle.wire.weights.pack_weights`).

        Raises:
            Violation: when they are those of no R that a site may have.
        """
        self._check(packed)
        with atomic_path(weights_file(self.folder, site)) as temporary:
            temporary.write_bytes(packed.numpy().tobytes())
        self._made = {key: made for key, made in self._made.items() if key[0] != site}

    def predict(self, site: str, conditions: torch.Tensor, channels: int, device: torch.device) -> torch.Tensor:
        """
        Args:
            site: one that has a file here.
            conditions: B×X×H×W uint8.
            channels: C of the images of the site.
            device: where it is computed.

        Returns:
            R(x), B×C×H×W float32 in [-1, 1]. Numbers that are none stay such: the site's weights may be anything.

        Raises:
            ValueError: when the file holds weights of another network.
        """
        key = site, channels
        if key not in self._made:
            self._made[key] = self._read(site, channels)
        network = self._made[key].to(device).eval()
        with torch.no_grad():
            return network(conditions.to(device, torch.float32)).float().clamp(-1, 1)

    def _read(self, site: str, channels: int) -> torch.nn.Module:
        path = weights_file(self.folder, site)
        network = self._make(self.image_channels - channels)
        packed = torch.from_numpy(np.fromfile(path, dtype=np.uint8))
        try:
            network.load_state_dict(unpack_weights(packed, network.state_dict()))
        except Violation as error:
            raise ValueError(
                f"{path}: {error}: expected those of private_teacher_def for images of {channels} channels. Was it "
                f"changed, or the modalities of site {site}? Remove the file"
            ) from error
        return network

    def _check(self, packed: torch.Tensor) -> None:
        """Of which modalities the site's images are, nobody knows yet: those of any number of channels pass."""
        found: Violation | None = None
        for lacking in range(self.image_channels):
            try:
                unpack_weights(packed, self._make(lacking).state_dict())
            except Violation as error:
                found = found or error
            except ValueError:
                break  # a network that cannot be made for fewer
            else:
                return
        assert found is not None
        raise found

    def _make(self, lacking: int) -> torch.nn.Module:
        # of weights that come, not of a seed; but nothing else is to draw other numbers for it
        return seeded(for_image_channels(self._network, lacking, ("out_channels",)), 0, "teacher")
