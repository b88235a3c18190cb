"""Digests of what is released."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from bundle.site.release.chain import canonical, plain

__all__ = ["tensor_digest"]


def tensor_digest(*content: torch.Tensor | Any) -> str:
    """
    SHA-256 over tensors and plain values in their order, as 64 hexadecimal digits.

    Of a tensor, dtype, shape and raw bytes count, and neither device nor memory layout. Each part is preceded by its
    kind and length, so that no two different lists of contents give the same bytes.

    Args:
        content: dense tensors of any dtype and shape; anything else must be plain JSON (:func:`plain`).

    Raises:
        ValueError: for a value that is not plain JSON.
    """
    digest = hashlib.sha256()
    for place, part in enumerate(content):
        if isinstance(part, torch.Tensor):
            header = [str(part.dtype).removeprefix("torch."), list(part.shape)]
            # by way of bytes: numpy knows no bfloat16
            body = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        else:
            header, body = ["json"], canonical(plain(part, f"content[{place}]"))
        digest.update(canonical([*header, len(body)]) + b"\n")
        digest.update(body)
    return digest.hexdigest()
