"""The stages by the names of their configs, and the workflow that runs each."""

from bundle.workflows import DistributedGANWorkflow, QualityWorkflow, SegmentationWorkflow

STAGES = {
    "train": DistributedGANWorkflow,
    "generate": DistributedGANWorkflow,
    "segment": SegmentationWorkflow,
    "evaluate": SegmentationWorkflow,
    "features": SegmentationWorkflow,
    "quality": QualityWorkflow,
}
