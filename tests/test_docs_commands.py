"""
Every command in the docs is one that there is: read by the real parsers, and not run.

In blocks of code: ``asyndgan``, ``python -m scripts.NAME``, ``python -m monai.bundle run`` and ``make``. In a sentence:
the command, and its options. Words in capitals, such as ``DIR``, stand for any value.
"""

import argparse
import ast
import importlib
import pydoc
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from bundle.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    if "lab" not in path.relative_to(ROOT).parts
)
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
SHELL = ("", "sh", "bash", "shell", "console")
ANY_VALUE = re.compile(r"<?[A-Z][A-Z0-9_]*(/[A-Z0-9_]+)*>?(\.[a-z]+)*")
"""What stands for a value of the reader's own: DIR, FILE.npz, <SITE>."""


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Lines of fenced blocks of the shell, and of indented ones, with their numbers; continued lines are joined."""
    fence, begun, joined = None, 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if mark := re.match(r"\s*(```+|~~~+)\s*(\w*)", line):
            fence = mark[2] if fence is None else None
            continue
        if fence not in (None, *SHELL) or (fence is None and not line.startswith("    ")):
            continue
        begun, joined = (number, line.strip()) if not joined else (begun, f"{joined} {line.strip()}")
        if joined.endswith("\\"):
            joined = joined.removesuffix("\\").rstrip()
            continue
        yield begun, joined
        joined = ""


def commands(line: str) -> Iterator[list[str]]:
    """The words of every command of a line: without a prompt, a comment, variables before it, and what is left out."""
    try:
        words = shlex.split(line.removeprefix("$ "), comments=True)
    except ValueError:  # a sentence with an apostrophe, in an indented paragraph
        return
    # so far shlex has done; an operator stands by itself, or ends a word
    found: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "||", "|", ";", "&"):
            found.append([])
        elif word not in ("…", "..."):
            found[-1].append(word.removesuffix(";"))
            if word.endswith(";"):
                found.append([])
    for one in found:
        while one and re.fullmatch(r"[A-Za-z_]\w*=.*", one[0], re.DOTALL):
            one = one[1:]
        if one:
            yield [re.sub(r"^(\.venv|\$\w+|\$\(\w+\))/bin/", "", one[0]), *one[1:]]


def problem(words: list[str]) -> str | None:
    """What is wrong with a command; None for one that there is, and for those of others."""
    if words[0] == "asyndgan":
        return parsing_problem(lambda: build_parser().parse_args(words[1:]))
    if words[0] == "make":
        wrong = [word for word in words[1:] if not re.match(r"-|\w+=", word) and word not in TARGETS]
        return f"make {wrong[0]}: the Makefile has no such target" if wrong else None
    if not re.fullmatch(r"python[\d.]*", words[0]):
        return None
    if len(words) > 1 and words[1].startswith("scripts/"):
        return f"{words[1]}: scripts are called by python -m scripts.NAME"
    if words[1:2] == ["-m"] and words[2].partition(".")[0] == "scripts":
        return script_problem(words[2], words[3:])
    if words[1:4] == ["-m", "monai.bundle", "run"]:
        return bundle_problem(words[4:])
    if words[1:3] == ["-m", "bundle.cli"]:
        return problem(["asyndgan", *words[3:]])
    return None


def script_problem(name: str, words: list[str]) -> str | None:
    path = ROOT.joinpath(*name.split("."))
    if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
        return f"{name}: no such script"
    module = importlib.import_module(f"{name}.__main__" if path.is_dir() else name)
    return parsing_problem(lambda: module.parse_arguments(words))


def bundle_problem(words: list[str]) -> str | None:
    """Of MONAI's command: configs and workflows that there are not. What the reader has to fill in is left alone."""
    given = dict(pairwise(words))
    text = given.get("--config_file", "")
    files = ast.literal_eval(text) if text.startswith("[") else [text]
    for file in files:
        known = "$" in file or ANY_VALUE.fullmatch(Path(file).name) or (ROOT / file).is_file()
        if not known:
            return f"--config_file {file or 'is missing'}: no such config"
    workflow = given.get("--workflow_name", "$")
    return None if "$" in workflow or pydoc.locate(workflow) else f"--workflow_name {workflow}: no such workflow"


class _Wrong(Exception):
    pass


def parsing_problem(parse) -> str | None:
    """What a parser of argparse finds wrong, when words in capitals are any value."""
    kind = argparse.ArgumentParser
    get, check = kind._get_value, kind._check_value

    def error(parser, message):
        raise _Wrong(f"{parser.prog}: {message}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "error", error)
        patch.setattr(kind, "_get_value", lambda p, a, text: text if ANY_VALUE.fullmatch(text) else get(p, a, text))
        patch.setattr(
            kind,
            "_check_value",
            lambda p, a, value: None if isinstance(value, str) and ANY_VALUE.fullmatch(value) else check(p, a, value),
        )
        try:
            parse()
        except _Wrong as wrong:
            return str(wrong)
        except SystemExit:  # --help
            return None
    return None


def spoken_problem(text: str) -> str | None:
    """Of a command named in a sentence: that there is one, and each option, whether or not it would be complete."""
    try:
        words = shlex.split(text)[1:]
    except ValueError:
        return None
    parser, place = build_parser(), "asyndgan"
    while words and (parts := [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]):
        # train|generate names several, federate … all
        names = words[0].split("|")
        if names[0] in ("…", "...") or ANY_VALUE.fullmatch(names[0]):
            return None
        if unknown := [name for name in names if not name.startswith("-") and name not in parts[0].choices]:
            return f"{place} {unknown[0]}: no such command"
        if words[0].startswith("-"):
            break
        parser, place, words = parts[0].choices[names[0]], f"{place} {names[0]}", words[1:]
    options = {option for action in parser._actions for option in action.option_strings}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]
    return f"{place} {unknown[0]}: no such option" if unknown else None


def problems(text: str) -> list[str]:
    """What is wrong with the commands of a page, with the numbers of the lines."""
    found = [
        f"line {number}: {said}"
        for number, line in blocks(text)
        for words in commands(line)
        if (said := problem(words)) is not None
    ]
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("    "):
            spoken = (spoken_problem(one) for one in re.findall(r"(?<!`)`(asyndgan [^`]+)`(?!`)", line))
            found += [f"line {number}: {said}" for said in spoken if said is not None]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_the_docs_is_one(page):
    assert problems(page.read_text(encoding="utf-8")) == []


def test_examples_of_the_help_are_commands():
    def texts(parser):
        yield parser.description
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for one in action.choices.values():
                    yield from texts(one)

    lines = [line for text in texts(build_parser()) for line in (text or "").splitlines() if "  asyndgan" in line]
    assert len(lines) > 25
    assert problems("\n".join(f"    {line.strip()}" for line in lines)) == []
    for path in [*(ROOT / "scripts").glob("*.py"), ROOT / "scripts" / "benchmark" / "__main__.py"]:
        assert problems(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))) == [], path


PAGE = """
    asyndgan prepare tcga_lgg DIR --output data \\
        --sites institution        # a comment
    asyndgan federate submit --startup_kit KIT --task TASK --set KEY=VALUE … && make test

```sh
$ .venv/bin/python -m monai.bundle run --config_file "['configs/train.yaml','configs/TASK.yaml']"
A=1 asyndgan train --task brats --dataset_dir data/lgg --seed N
python -m scripts.wire_costs --megabits 10; make demo DATA=here
```

```yaml
asyndgan: nothing
```

Calls `asyndgan federate stop --now`, `asyndgan train|generate`, `asyndgan federate …`.
"""


def test_a_page_that_is_right():
    assert problems(PAGE) == []
    assert [number for number, _ in blocks(PAGE)] == [2, 4, 7, 8, 9]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("    asyndgan prepair brats DIR", "invalid choice: 'prepair'"),
        ("    asyndgan prepare brats DIR --sites size", "the following arguments are required: --output"),
        ("    asyndgan run --task hearts --dataset_dir DIR", "'hearts', expected one of brats"),
        ("    asyndgan run --task brats --dataset_dir DIR --seed 1", "unrecognized arguments: --seed 1"),
        ("    python scripts/prepare_data.py brats", "scripts are called by python -m scripts.NAME"),
        ("    python -m scripts.federate poc", "scripts.federate: no such script"),
        ("    python -m scripts.benchmark step --modes float8", "'float8': expected textbook"),
        ("    python -m monai.bundle run --config_file configs/brains.yaml", "configs/brains.yaml: no such config"),
        (
            "    python -m monai.bundle run --workflow_name bundle.Nothing --config_file configs/train.yaml",
            "no such wo",
        ),
        ("    make nothing", "the Makefile has no such target"),
        ("Then `asyndgan federate begin` does it.", "asyndgan federate begin: no such command"),
        ("Then `asyndgan report --everything` does it.", "asyndgan report --everything: no such option"),
    ],
)
def test_what_is_wrong_is_said(line, message):
    (said,) = problems(f"\n{line}\n")
    assert said.startswith("line 2: ")
    assert message in said
