"""The bundle's stages as MONAI workflows, with checks before anything is computed, and experiments made of them."""

from bundle.workflows.config_checks import ConfigError
from bundle.workflows.plain_run import check_plain_run
from bundle.workflows.workflow import DistributedGANWorkflow, QualityWorkflow, SegmentationWorkflow, config_digest

__all__ = [
    "ConfigError",
    "DistributedGANWorkflow",
    "QualityWorkflow",
    "SegmentationWorkflow",
    "check_plain_run",
    "config_digest",
]
