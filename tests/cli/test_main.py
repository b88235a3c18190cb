"""The command itself: what its parser imports, its options, how it ends."""

import argparse
import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.cli.main import COMMANDS, build_parser, main
from bundle.cli.options import overrides, profile_of, training_files
from bundle.composition import STAGES

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ["--task", "brats", "--dataset_dir", "data"]
# every parser prints its help, and one of the longest is used
HELP = """
import argparse, sys
from bundle.cli.main import build_parser

def parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from parsers(one)

parser = build_parser()
found = list(parsers(parser))
assert all(one.format_help() for one in found)
words = "federate submit --startup_kit KIT --task brats --profile demo --config l1 --set num_steps=3 seed=1"
parser.parse_args(words.split())
heavy = {"torch", "monai", "nvflare", "numpy", "scipy", "matplotlib", "nibabel", "SimpleITK"} & sys.modules.keys()
print(len(found), *sorted(heavy))
"""


def parsers(parser, name="asyndgan"):
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, one in action.choices.items():
                yield from parsers(one, f"{name} {word}")


PARSERS = dict(parsers(build_parser()))


def test_to_read_a_command_imports_nothing_that_takes_long():
    done = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split() == [str(len(PARSERS))]


@pytest.mark.parametrize("name", PARSERS)
def test_every_command_says_what_it_does(name):
    text = PARSERS[name].format_help()
    assert text.startswith(f"usage: {name}")
    assert PARSERS[name].description
    for action in PARSERS[name]._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), f"{name} {action.dest}"
    assert not PARSERS[name].allow_abbrev


@pytest.mark.parametrize("name", PARSERS)
def test_one_dialect(name):
    """An option is spelt in one way, and means one thing, wherever it stands."""
    meant = {
        "--task": "TASK",
        "--profile": "PROFILE",
        "--config": "CONFIG",
        "--set": "KEY=VALUE",
        "--dataset_dir": "DIR",
    }
    meant |= {"--run_dir": "DIR", "--seed": "N", "--seeds": "N", "--threads": "N", "--startup_kit": "KIT"}
    for action in PARSERS[name]._actions:
        for option in action.option_strings:
            assert action.metavar == meant.get(option, action.metavar), f"{name} {option}"
            assert option in ("-h", "--no-supervise") or "-" not in option.removeprefix("--"), f"{name} {option}"


def test_there_is_a_command_for_every_stage():
    assert set(STAGES) < set(COMMANDS)


def test_lists_that_are_written_out_here_are_those_of_the_libraries():
    from bundle.audit.readout_run import LOSSES
    from bundle.cli import audit, pack, phantoms, prepare
    from bundle.data.one_grid import TRUST
    from bundle.phantoms import gaussian as toy
    from bundle.phantoms.brains import STYLES
    from bundle.phantoms.nuclei import TILE_STYLES
    from bundle.prepare.layouts import LAYOUTS
    from bundle.prepare.splits import RULES
    from bundle.sharing import KINDS, OPTIONS

    assert {name: layout.description for name, layout in LAYOUTS.items()} == prepare.LAYOUTS
    assert (tuple(RULES), TRUST) == (prepare.RULES, prepare.TRUST)
    assert (tuple(STYLES), tuple(TILE_STYLES)) == (phantoms.BRAINS, phantoms.ORGANS)
    assert tuple((part.mean, part.spread) for part in toy.MIXTURE) == tuple(
        zip(phantoms.MEANS, phantoms.SPREADS, strict=True)
    )
    assert toy.SPREADS == phantoms.KINDS_OF_SPREAD
    assert (pack.KINDS, tuple(pack.FILES)) == (KINDS, OPTIONS)
    assert LOSSES == audit.LOSSES


def parse(*words):
    return build_parser().parse_args(list(map(str, words)))


def test_configs_of_a_training(tmp_path):
    names = [Path(file).name for file in training_files(parse("run", *TRAINING))]
    assert "train.yaml" in names
    assert names[-2:] == ["brats.yaml", "small.yaml"]
    options = parse("run", *TRAINING, "--profile", "demo", "--config", "l1", "--config", tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text("profile: compact", encoding="utf-8")
    assert [Path(file).name for file in training_files(options)][-3:] == ["demo.yaml", "l1.yaml", "own.yaml"]
    assert training_files(options)[-1] == str(tmp_path / "own.yaml")
    assert profile_of(parse("run", *TRAINING, "--config", tmp_path / "own.yaml")) == "compact"
    assert profile_of(parse("run", "--task", "gaussian", "--dataset_dir", "data")) is None
    with pytest.raises(ValueError, match="the task gaussian has sizes of its own"):
        profile_of(parse("run", "--task", "gaussian", "--profile", "small", "--dataset_dir", "data"))
    with pytest.raises(FileNotFoundError, match=r"cannot find the config file none\.yaml"):
        profile_of(parse("run", *TRAINING, "--config", "none.yaml"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "tiny"], "argument --profile: 'tiny', expected the name of a config in"),
        (["--config", "l2"], "argument --config: 'l2', expected the name of a config in"),
        (["--task", "hearts"], "argument --task: 'hearts', expected one of brats, gaussian, multi_organ, or a path"),
        (["--seeds", "-1"], "argument --seeds: '-1', expected a whole number, 0 or more"),
    ],
)
def test_what_a_word_is_expected_to_be(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("run", *TRAINING, *words)
    assert message in capsys.readouterr().err


def test_the_files_of_a_stage_are_a_list_as_monai_reads_it(capsys):
    assert main(["files", "train", "--task", "brats", "--config", "l1"]) == 0
    found = ast.literal_eval(capsys.readouterr().out)
    assert found == training_files(parse("run", *TRAINING, "--config", "l1"))


def test_what_is_set():
    options = parse("train", *TRAINING, "--set", "a=1", "b=[x, 2]", "--set", "c=@d")
    assert overrides(options.set) == {"a": 1, "b": ["x", 2], "c": "@d"}
    with pytest.raises(ValueError, match="--set a: expected KEY=VALUE"):
        overrides(["a"])


def test_a_refusal_is_one_line_and_a_fault_keeps_its_traceback(monkeypatch, tmp_path, capsys):
    words = ["tuning_list", tmp_path, "--output", tmp_path / "out"]
    assert main(words) == 2
    assert (
        capsys.readouterr().err.strip()
        == f"error: {tmp_path / 'datalist.json'}: no such data list; asyndgan prepare writes one"
    )
    monkeypatch.setattr("bundle.data.datalist.load_datalist", lambda _: json.loads("{"))
    with pytest.raises(ValueError, match="Expecting"):
        main(words)
    monkeypatch.setattr("bundle.data.datalist.load_datalist", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(words) == 130


def test_as_a_program():
    done = subprocess.run([sys.executable, "-m", "bundle.cli", "site", "ledger", "none"], cwd=ROOT, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.decode().count("error: ") == 1
