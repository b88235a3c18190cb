"""NIfTI files of an array's own shape."""

from __future__ import annotations

from typing import Any

from monai.config import NdarrayOrTensor
from monai.data import NibabelWriter

__all__ = ["GridNiftiWriter"]


class GridNiftiWriter(NibabelWriter):
    """
    MONAI's writer, but that a mask of one slice keeps its axis of one voxel, as the volume that it belongs to has it.

    For ``SaveImaged(writer=...)``, which drops such axes, so that the mask of a volume X×Y×1 is X×Y.
    """

    data_obj: Any

    def set_data_array(self, data_array: NdarrayOrTensor, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """See MONAI's; ``data_array`` is C×X×Y[×Z]. Of one channel, the file has none."""
        super().set_data_array(data_array, channel_dim=channel_dim, **kwargs)
        if channel_dim == 0 and len(data_array) == 1:
            self.data_obj = self.data_obj.reshape(tuple(data_array.shape[1:]))
