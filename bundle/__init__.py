"""AsynDGAN as a MONAI bundle: one central generator, discriminators that stay with their site's images."""

__version__ = "0.1.0"
