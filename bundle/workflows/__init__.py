"""The bundle's stages as MONAI workflows, with checks before anything is computed, and experiments made of them."""

from bundle.workflows.checks import ConfigError
from bundle.workflows.workflow import (
    DistributedGANWorkflow,
    QualityWorkflow,
    SegmentationWorkflow,
    config_digest,
)

__all__ = ["ConfigError", "DistributedGANWorkflow", "QualityWorkflow", "SegmentationWorkflow", "config_digest"]
