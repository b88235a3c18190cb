"""What the engines of every stage are put together from: handlers, inferers, schedules, writers."""

from bundle.engines.average import WeightsAverage
from bundle.engines.checkpoint_handlers import AtomicCheckpointSaver, Resume, StoppedAtStep
from bundle.engines.each_file import run_each_file
from bundle.engines.grid_writer import GridNiftiWriter
from bundle.engines.handlers import CaseMetrics, CaseMetricsSaver, Progress, TrainingRecord, WeightsSaver
from bundle.engines.images import write_nifti_slice, write_nifti_volume, write_png
from bundle.engines.inferer import AutocastInferer, PaddedInferer, SeededBatch, SeededInferer, one_tensor
from bundle.engines.lr import LinearDecay, num_epochs, share_of_batch
from bundle.engines.synthetic import SyntheticWriter

__all__ = [
    "AtomicCheckpointSaver",
    "AutocastInferer",
    "CaseMetrics",
    "CaseMetricsSaver",
    "GridNiftiWriter",
    "LinearDecay",
    "PaddedInferer",
    "Progress",
    "Resume",
    "SeededBatch",
    "SeededInferer",
    "StoppedAtStep",
    "SyntheticWriter",
    "TrainingRecord",
    "WeightsAverage",
    "WeightsSaver",
    "num_epochs",
    "one_tensor",
    "run_each_file",
    "share_of_batch",
    "write_nifti_slice",
    "write_nifti_volume",
    "write_png",
]
