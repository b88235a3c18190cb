"""Everything that the shipped configs declare can be made: every stage, task and profile, on phantoms."""

from pathlib import Path

import pytest
from stages import STAGES

from bundle.phantoms.gaussian import write_mixture
from bundle.workflows.config_checks import keys_in_use
from bundle.workflows.experiment import Experiment

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# not stages, tasks or sizes: tested with what they are for
BASES = {"run", "server", "site", "supervised", "models", "semantic", "instances"}
OTHERS = {
    "average",
    "flare",
    "guarded",
    "guided",
    "inference",
    "l1",
    "mlflow",
    "multi_gpu_segment",
    "published",
    "resnet_features",
    "score",
    "spade",
    "vgg_features",
}
SIZES = ("demo", "compact", "small", "paper")
PROFILES = {"brats": SIZES, "multi_organ": SIZES, "gaussian": (None,)}


def test_no_config_is_forgotten():
    named = {*STAGES, *BASES, *OTHERS, *PROFILES, *(name for names in PROFILES.values() for name in names if name)}
    assert named == {path.stem for path in CONFIGS.glob("*.yaml")}


@pytest.fixture(scope="module")
def runs(phantom_dir, nuclei_dir, tiny_sizes, tmp_path_factory):
    """Data and a finished run by task: stages look for what the stages before have written."""
    toy = write_mixture(tmp_path_factory.mktemp("toy") / "toy", draws=[20, 20, 20], test_draws=20).parent
    made = {}
    for task, data in {"brats": phantom_dir, "multi_organ": nuclei_dir, "gaussian": toy}.items():
        run_dir = tmp_path_factory.mktemp(task)
        sizes = (
            tiny_sizes if task != "gaussian" else {"num_steps": 2, "epoch_length": 2, "batch_size": 2, "device": "cpu"}
        )
        experiment = Experiment(
            task,
            str(data),
            profile=PROFILES[task][0],
            run_dir=str(run_dir),
            settings=["asyndgan"],
            config_dir=str(CONFIGS),
            overrides=sizes,
        )
        experiment.run()
        made[task] = (data, run_dir, set(experiment.stages), sizes)
    return made


@pytest.mark.parametrize(
    ("stage", "task", "profile"),
    [(stage, task, profile) for task, profiles in PROFILES.items() for profile in profiles for stage in STAGES],
)
def test_everything_that_a_config_declares_can_be_made(stage, task, profile, runs, tmp_path):
    data, run_dir, stages, sizes = runs[task]
    # the toy has fewer stages; quality loads weights, which have the sizes of one profile
    if stage not in stages or (stage == "quality" and profile != PROFILES[task][0]):
        return
    files = [str(CONFIGS / f"{name}.yaml") for name in (stage, task, profile) if name]
    given = sizes if stage == "quality" or profile is None else {"device": "cpu", "cache_rate": 0.0}
    if stage == "train" and profile is not None:
        # the profiles' steps are for more than two tiles a site
        given = given | {"release_policy": {"policy": "guarded", "max_issues": None}}
    workflow = STAGES[stage](files, dataset_dir=str(data), run_dir=str(run_dir), logging_file=False, **given)
    workflow.parser["cache_dir"] = str(tmp_path)
    workflow.initialize()
    assert workflow.check_properties() == []
    # of the keys that are not reached from here, some are other stages'
    start = {"run", "inputs", "finished", "config_path", *(about["id"] for about in workflow.properties.values())}
    for key in sorted(keys_in_use(workflow.parser.config, start) - {"run"}):
        workflow.make(key)


@pytest.mark.parametrize(
    ("overlay", "task", "weight", "rate"),
    [("published", "brats", 100, 2e-4), ("published", "multi_organ", 100, 2e-4), ("l1", "brats", 10, 2e-4)],
)
def test_an_overlay_has_its_loss_its_policy_and_its_rates(overlay, task, weight, rate, runs, tmp_path):
    data, _, stages, sizes = runs[task]
    files = [str(CONFIGS / f"{name}.yaml") for name in (task, PROFILES[task][0], overlay)]
    for stage in stages - {"quality"}:  # no stage takes a key of it for a mistake
        first = str(CONFIGS / f"{stage}.yaml")
        workflow = STAGES[stage](
            [first, *files], dataset_dir=str(data), run_dir=str(tmp_path), logging_file=False, **sizes
        )
        workflow.initialize()
        if stage == "train":
            assert workflow.make("site_loss_def").describe() == f"vanilla adversarial + {weight}·L1"
            for site in workflow.make("sites"):
                assert site.policy.name == "published"
                assert site.critic.optimizer.param_groups[0]["lr"] == workflow.make("lr") == rate
