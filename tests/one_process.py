"""The training with all sites in this process, on the one thread that conftest.py sets: what others have to equal."""

from pathlib import Path

from bundle.workflows import DistributedGANWorkflow

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def train_in_one_process(files, dataset_dir, run_dir, sizes):
    """Run ``files`` of our configs to the end, and return the workflow."""
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
