"""Transforms whose errors name the files of the item."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from monai.data import MetaTensor
from monai.transforms import Compose

from brats_code.plain_errors import sentence
from brats_code.transforms.source_name import source_name

__all__ = ["NamedCompose"]


class NamedCompose(Compose):
    """
    MONAI's ``Compose``, but that an error says which file cannot be used and why.

    Most transforms know arrays only, and MONAI wraps what they say in layers that name transforms.

    Args:
        transforms: and all others: see ``Compose``.

    Raises:
        ValueError: on a call; one sentence with the file and the cause.

    Example:
        >>> NamedCompose([lambda item: 1 / 0])({"image": "a.png"})
        Traceback (most recent call last):
        ...
        ValueError: a.png cannot be used: division by zero
    """

    def __call__(self, input_: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(input_, *args, **kwargs)
        except Exception as error:
            said, names = sentence(error), _files(input_)
            if any(name in said for name in names):
                raise ValueError(said) from error
            raise ValueError(f"{' with '.join(names) or 'an unnamed item'} cannot be used: {said}") from error


def _files(item: Any) -> list[str]:
    """Files behind the arrays of an item: each once, of several modalities the first."""
    if not isinstance(item, Mapping):
        return []
    one = {key: value[0] if isinstance(value, list | tuple) and value else value for key, value in item.items()}
    known = [key for key, value in one.items() if isinstance(value, MetaTensor | str | PathLike)]
    return list(dict.fromkeys(source_name(one, key) for key in known))
