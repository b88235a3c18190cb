"""What crosses the wall between server and sites: messages, their bytes, their limits, and the count of them."""

from bundle.wire.codec import Codec, WireLedger
from bundle.wire.limits import Limits

__all__ = ["Codec", "Limits", "WireLedger"]
