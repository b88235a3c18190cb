"""The overlay with SPADE blocks, from its training to its images."""

import pytest

from bundle.data.datalist import load_datalist
from bundle.workflows.experiment import Stages
from bundle.workflows.network_checks import check_generator


@pytest.mark.parametrize(("task", "noise"), [("brats", 0), pytest.param("multi_organ", 8, marks=pytest.mark.long)])
def test_it_trains_and_generates(task, noise, phantom_dir, nuclei_dir, tiny_sizes, tmp_path):
    data = phantom_dir if task == "brats" else nuclei_dir
    stages = Stages(task, str(data), "demo", str(tmp_path), config_files=["spade"], overrides=tiny_sizes)
    training = stages.workflow("train", "asyndgan", 0)
    network = training.make("generator_def")
    check_generator(network, training.make("condition_shape"), training.make("image_shape"))
    assert type(network()).__name__ == "SpadeGenerator"
    assert network().noise_channels == noise
    for stage in ("train", "generate"):
        stages.run_stage(stage, "asyndgan", 0)
    made = load_datalist(tmp_path / "seed_0" / "asyndgan" / "synthetic", training.make("modalities"), deep=True)
    assert made.training
    assert {item["site"] for item in made.training} == {item["site"] for item in load_datalist(data).training}
