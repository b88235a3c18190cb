"""Bundles to share: self-contained folders in the model zoo's layout, made from the files of a run."""

from bundle.sharing.errors import PackError
from bundle.sharing.pack import KINDS, PackOptions, pack_bundle
from bundle.sharing.run_files import OPTIONS, RunFiles

__all__ = ["KINDS", "OPTIONS", "PackError", "PackOptions", "RunFiles", "pack_bundle"]
