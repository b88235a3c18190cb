"""The training with all sites in this process, on one thread: what a training behind a network has to equal."""

from contextlib import contextmanager
from pathlib import Path

import torch

from bundle.workflows import DistributedGANWorkflow

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@contextmanager
def one_thread():
    """Bits depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_in_one_process(files, dataset_dir, run_dir, sizes):
    """Run ``files`` of our configs to the end, and return the workflow."""
    with one_thread():
        workflow = DistributedGANWorkflow(
            config_file=[str(CONFIGS / name) for name in files],
            bundle_root=str(run_dir),
            dataset_dir=str(dataset_dir),
            run_dir=str(run_dir),
            device="cpu",
            **sizes,
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    return workflow
