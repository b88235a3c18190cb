"""AsynDGAN as a MONAI bundle: one central generator, discriminators that stay with their site's images."""

from bundle.threads import wait_briefly

__version__ = "0.1.0"

__all__ = ["SyntheticDataset", "generate"]

# every process that imports anything of this package comes through here, most of them before torch
wait_briefly()


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    # imported when asked for: most of what is imported from this package needs neither
    return getattr(import_module("bundle.generators"), name)
