"""What a user reads where MONAI would show a traceback."""

import logging
import subprocess
import sys

import pytest

from bundle.plain_errors import plain_cause, sentence


def raised(*errors):
    """The last of some errors, each caused by the one before it."""
    for cause, error in zip((None, *errors), errors, strict=False):
        error.__cause__ = cause
    return errors[-1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            raised(ValueError("a.nii: too flat"), RuntimeError("applying"), RuntimeError("evaluating")),
            "a.nii: too flat",
        ),
        (raised(KeyError("inner"), ValueError("outer")), "outer"),
        (raised(EOFError("ended early"), RuntimeError("applying")), "ended early"),
        (raised(FileNotFoundError(2, "No such file", "x.pt"), RuntimeError("layer")), "[Errno 2] No such file: 'x.pt'"),
        (RuntimeError("cannot find a reader for x\n  Please install\n"), "cannot find a reader for x"),
        (StopIteration(), "StopIteration"),
    ],
)
def test_the_cause_is_what_is_said(error, said):
    assert sentence(error) == said
    assert plain_cause(error) is not None


PROGRAM = """
import logging
from bundle.inputs import check_inputs
from bundle.plain_errors import end_in_a_sentence
logging.basicConfig()
end_in_a_sentence()
logger = logging.getLogger("ignite.engine.engine.SupervisedEvaluator")
try:
    try:
        {raise_it}
    except Exception as error:
        logger.error("Engine run is terminating due to exception: applying")
        logger.exception("Exception: twice")
        raise RuntimeError("Failed to evaluate ConfigExpression") from error
except Exception as error:
    raise RuntimeError("Failed to evaluate ConfigExpression") from error
"""


@pytest.mark.parametrize(
    ("raise_it", "refused"),
    [
        ("check_inputs([], 'image', 'out', 'seg', '.nii', 'b.nii: no brain')", True),
        pytest.param("raise OSError('b.nii: no brain')", True, marks=pytest.mark.long),
        pytest.param("raise ValueError('not said by this package')", False, marks=pytest.mark.long),
        ("1 / 0", False),
    ],
)
def test_a_process_ends_with_a_refusal_alone_and_with_the_traceback_of_what_is_none(raise_it, refused):
    words = [sys.executable, "-c", PROGRAM.format(raise_it=raise_it)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    if refused:
        assert done.stderr == "error: b.nii: no brain\n"
    else:
        assert done.stderr.count("Traceback") == 3
        assert "Error: division by zero" in done.stderr or "Error: not said" in done.stderr


def test_other_loggers_keep_their_tracebacks(caplog):
    try:
        raise ValueError("once")
    except ValueError:
        logging.getLogger("somebody").exception("kept")
    assert caplog.records[-1].exc_info
