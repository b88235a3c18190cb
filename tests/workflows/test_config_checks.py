"""What a configuration must not hold, and that the message names it."""

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from bundle.workflows.config_checks import (
    ConfigError,
    check_arguments,
    check_numbers,
    check_overrides,
    check_top_level_keys,
)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

TRAIN = """
lr: 0.1
sizes: [16, 32]
network:
  _target_: UNet
  spatial_dims: 2
  in_channels: 1
  out_channels: 2
  channels: '@sizes'
  strides: [2]
train:
  handlers:
  - {_target_: StatsHandler, name: one}
  trainer: {_target_: torch.optim.SGD, lr: '@lr', params: $list(@network.parameters())}
run: $@profile_key
"""
TEST = "run: $@other_stage + @setting\ncopies: 1\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.yaml").write_text(TRAIN)
    (tmp_path / "test.yaml").write_text(TEST)
    return tmp_path


def overlay(folder, text):
    (folder / "overlay.yaml").write_text(text)
    return [folder / "train.yaml", folder / "overlay.yaml"]


def test_unknown_key_in_a_file_is_named_with_the_file_and_the_nearest_key(folder):
    with pytest.raises(ConfigError, match=r"unknown key 'sizs' in .*overlay\.yaml: .*did you mean 'sizes'\?"):
        check_top_level_keys(overlay(folder, "sizs: [1]\n"), [])


def test_unknown_key_on_the_command_line(folder):
    with pytest.raises(ConfigError, match=r"unknown key 'learning_rate' in the command line: no stage uses it$"):
        check_top_level_keys([folder / "train.yaml"], ["lr", "learning_rate"])


@pytest.mark.parametrize(
    "key",
    [
        "lr",  # declared by the stage
        "profile_key",  # referred to, declared by nobody
        "copies",  # declared by another stage
        "other_stage",  # referred to by another stage
        "run",
        "bundle_root",
        "+sizes",
        "train#trainer#lr",
        "train::trainer::lr",
    ],
)
def test_keys_that_somebody_uses(folder, key):
    check_top_level_keys([folder / "train.yaml"], [key])
    check_top_level_keys(overlay(folder, f"{key!r}: 1\n"), [])


def test_the_key_of_a_file_that_merges_or_goes_below_is_checked_at_its_top_level(folder):
    with pytest.raises(ConfigError, match="unknown key 'trian' in"):
        check_top_level_keys(overlay(folder, "'trian#trainer#lr': 1\n"), [])
    with pytest.raises(ConfigError, match="unknown key 'sizs' in"):
        check_top_level_keys(overlay(folder, "+sizs: [3]\n"), [])


def test_a_key_of_an_overlay_counts_when_the_overlay_refers_to_it_itself(folder):
    check_top_level_keys(overlay(folder, "my_rate: 0.2\nlr: '@my_rate'\n"), ["my_rate"])
    with pytest.raises(ConfigError, match="'my_rate'"):
        check_top_level_keys(overlay(folder, "my_rate: 0.2\n"), [])


@pytest.fixture
def parser(folder):
    parser = ConfigParser()
    parser.read_config(str(folder / "train.yaml"))
    return parser


@pytest.mark.parametrize(
    "override",
    [
        "train#trainer#lr",  # there
        "train::trainer::lr",
        "train#trainer#momentum",  # not there, an argument of the component
        "train#handlers#0#name",
        "train#handlers#0",
        "sizes#1",
        "+train#trainer#lr",
        "network#_mode_",  # of every component
        "train#extra",  # a plain mapping may be added to
        "lr",
    ],
)
def test_overrides_that_do_something(parser, override):
    check_overrides(parser, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train#trainer#momentun", "unknown key 'momentun' in the override .*; did you mean 'momentum'"),
        ("train#trianer#lr", "unknown key 'trianer' in the override 'train#trianer#lr'; did you mean 'trainer'"),
        ("train#handlers#1#name", "train#handlers has no '1'"),
        ("train#handlers#first", "train#handlers has no 'first'"),
        ("sizes#2", "sizes has no '2'"),
        ("sizes#-1", "sizes has no '-1'"),
        ("lr#value", "lr has no 'value'"),
    ],
)
def test_overrides_that_would_do_nothing(parser, override, message):
    with pytest.raises(ConfigError, match=message):
        check_overrides(parser, ["lr", override])


def test_an_argument_that_a_component_does_not_take_is_found_wherever_it_stands():
    config = {"a": [{"b": {"_target_": "UNet", "spatial_dims": 2, "in_channel": 1}}]}
    with pytest.raises(ConfigError, match=r"^a#0#b: UNet takes no argument 'in_channel'; did you mean 'in_channels'"):
        check_arguments(config)
    component = {"_target_": "bundle.networks.ResnetGenerator", "num_block": 6}
    with pytest.raises(ConfigError, match=r"bundle\.networks\.ResnetGenerator takes no argument 'num_block'"):
        check_arguments({"generator": component})


def test_components_are_not_made_and_what_cannot_be_told_is_let_through():
    check_arguments(
        {
            "path": {"_target_": "pathlib.Path", "anything": 1},  # *args, **kwargs
            "taken from elsewhere": {"_target_": "$@network", "anything": 1},
            "not yet": {"_target_": "bundle.files.require_file", "path": "/nowhere", "hint": "", "_mode_": "callable"},
            "switched off": {"_target_": "UNet", "_disabled_": True, "_desc_": "for later", "_requires_": "@a"},
        }
    )


@pytest.mark.parametrize("target", ["ResnetGenerator", "bundle.networks.Resnet", "no_such_package.Thing"])
def test_a_target_that_cannot_be_imported(target):
    with pytest.raises(ConfigError, match=rf"generator: _target_ {target} cannot be imported"):
        check_arguments({"generator": {"_target_": target}})


@pytest.mark.parametrize("text", ["2e-4", "1E5", "-3.e+2", "1.5e3"])
def test_text_that_is_meant_as_a_number(text):
    with pytest.raises(ConfigError, match=r"^a#1 is the text .*, expected a number"):
        check_numbers({"a": [0, text]})


def test_text_that_is_text():
    check_numbers({"lr": 2e-4, "site": "e4", "case": "12e", "expression": "$2e-4 * @scale", "none": None})


def test_the_shipped_configs_name_components_that_there_are_and_arguments_that_they_take():
    for file in sorted(CONFIGS.glob("*.yaml")):
        config = ConfigParser.load_config_file(file)
        check_arguments(config)
        check_numbers(config)


def test_a_misspelt_key_of_the_config_format_is_an_argument_that_nobody_takes():
    with pytest.raises(ConfigError, match="takes no argument '_mod_'; did you mean '_mode_'"):
        check_arguments({"net": {"_target_": "UNet", "_mod_": "callable"}})


@pytest.mark.parametrize("path", sorted(CONFIGS.iterdir()), ids=lambda path: path.name)
def test_configs_are_ascii(path):
    """MONAI reads them in the locale's encoding, which need not be UTF-8."""
    path.read_bytes().decode("ascii")
