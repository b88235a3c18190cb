"""What is run from a checkout and is no command of the product: ``python -m scripts.NAME --help``."""
