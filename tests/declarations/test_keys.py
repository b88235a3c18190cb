"""The declaration of the keys and the configs say the same."""

import re
from pathlib import Path

import pytest
import yaml

from bundle.declarations.job import SERVER_KEYS, SITE_KEYS
from bundle.declarations.keys import KEYS, PARTICIPANT_KEYS, PATH_KEYS, problem
from bundle.workflows.config_checks import STANDARD_KEYS, is_computed

ROOT = Path(__file__).resolve().parents[2]
# what MONAI reads of experiment tracking is no config of a stage
CONFIGS = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "configs").glob("*.yaml"))
    if path.name != "mlflow.yaml"
}


def test_every_key_with_a_plain_value_is_declared_and_every_declared_key_is_one_of_a_config():
    plain = {key for config in CONFIGS.values() for key, value in config.items() if not is_computed(value)}
    assert plain - STANDARD_KEYS - KEYS.keys() == set()
    assert KEYS.keys() - set().union(*CONFIGS.values()) == set()
    assert {key for key in STANDARD_KEYS if key in KEYS} == {"bundle_root"}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_the_shipped_configs_have_is_of_its_keys_kind(name):
    values = {key: value for key, value in CONFIGS[name].items() if key in KEYS and not is_computed(value)}
    assert [wrong for key, value in values.items() if (wrong := problem(key, value))] == []


def test_participants_set_what_is_declared():
    assert KEYS.keys() | PARTICIPANT_KEYS.keys() >= SITE_KEYS | SERVER_KEYS
    assert not KEYS.keys() & PARTICIPANT_KEYS.keys()


def test_every_key_says_what_it_means_in_a_line():
    for key, about in (KEYS | PARTICIPANT_KEYS).items():
        assert re.fullmatch(r"[\w-]+", key)
        assert about.meaning
        assert "\n" not in about.meaning


def test_the_documented_keys_are_declared_or_parts_that_can_be_replaced():
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    components = {key for config in CONFIGS.values() for key, value in config.items() if is_computed(value)}
    assert named - KEYS.keys() - components == set()


@pytest.mark.parametrize("key", sorted(KEYS.keys() - PATH_KEYS - SITE_KEYS - SERVER_KEYS - {"weights", "dataset_dir"}))
def test_no_plain_value_is_evaluated_however_it_is_wrapped(key):
    for evil in (f"{mark}__import__('os').getpid()" for mark in "$@%"):
        for value in (evil, [evil], [evil, evil], {evil: 1}, {"a": evil}, {"a": [evil]}, {"_target_": "os.getpid"}):
            assert problem(key, value) is not None


def test_paths_are_a_participants_own():
    own = {"dataset_dir", "run_dir", "checkpoint_dir", "release_dir", "cache_dir", "perceptual_weights_path"}
    assert own | {"bundle_root", "output_dir", "condition_bank", "public_conditions", "weights"} <= PATH_KEYS
