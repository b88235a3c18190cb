"""Trained generators to draw from, without anybody's images or label maps: by a name, or from a packed bundle."""

from bundle.generators.dataset import SyntheticDataset
from bundle.generators.packed import ModelError, PackedGenerator, model_names, read_model
from bundle.generators.writing import generate

__all__ = ["ModelError", "PackedGenerator", "SyntheticDataset", "generate", "model_names", "read_model"]
