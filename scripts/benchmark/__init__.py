"""Speed and memory: ``python -m scripts.benchmark --help``."""
