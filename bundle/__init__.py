"""AsynDGAN as a MONAI bundle: one central generator, discriminators that stay with their site's images."""

from bundle.threads import wait_briefly

__version__ = "0.1.0"

# every process that imports anything of this package comes through here, most of them before torch
wait_briefly()
