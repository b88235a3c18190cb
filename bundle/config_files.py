"""Config files, read as MONAI reads them, and each once: to read YAML in Python takes longer than a small stage."""

from __future__ import annotations

import os
from copy import deepcopy
from functools import lru_cache
from typing import Any

from monai.bundle import ConfigParser

__all__ = ["ConfigFiles"]


class ConfigFiles(ConfigParser):
    """
    MONAI's parser, for which a file that has not changed is not read again: one process asks for the same few files
    some hundred times, to compare keys with those of other stages.
    """

    @classmethod
    def load_config_file(cls, filepath: str | os.PathLike, **kwargs: Any) -> dict:
        """
        The content of a YAML or JSON file, as :meth:`monai.bundle.ConfigParser.load_config_file` reads it: a copy.

        Raises:
            OSError: there is no such file.
            ValueError: it is neither YAML nor JSON by its name.
        """
        if not filepath or kwargs:
            return super().load_config_file(filepath, **kwargs)
        path = os.path.abspath(filepath)
        found = os.stat(path)
        return deepcopy(_read(path, found.st_mtime_ns, found.st_size, found.st_ino))


@lru_cache(maxsize=256)
def _read(path: str, *version: int) -> dict:
    return ConfigParser.load_config_file(path)
