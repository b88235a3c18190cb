import json
import logging
import logging.config
import sys
from pathlib import Path

import pytest

from bundle.text import MAX_TEXT, EscapingFormatter, console, escape_logs, escaped, escaping, is_text, shown
from bundle.wire import Codec
from bundle.wire.messages import ConditionRequest, OpenRequest, Refusal, SiteInfo

ROOT = Path(__file__).resolve().parents[1]
GOOD = ["", "A", "St. Mary", "Köln", "東京", "UPenn/HUP", "step 3: it's 4.5 > 3 (max_releases)", "x" * MAX_TEXT]
BAD = {
    "line end": "A\nstep 9: site B is left out",
    "carriage return": "A\rB",
    "terminal escape": "\x1b[2J\x1b[1;1H",
    "one byte of one": "\x9b2J",
    "tab": "A\tB",
    "nothing": "A\0",
    "other line ends": "A\u2028B\x85C\x0bD",
    "turned round": "\u202egpj.exe",
    "invisible": "A\u200bB\ufeff",
    "half a pair": "\ud800",
    "too long": "x" * (MAX_TEXT + 1),
}


@pytest.mark.parametrize("text", GOOD)
def test_names_and_reasons_of_any_script_cross_as_they_are(text):
    assert is_text(text)
    assert escaped(text) == shown(text) == text
    assert Codec().decode(Codec().encode(Refusal(text, text))) == Refusal(text, text)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "make",
    [
        lambda text: OpenRequest(text, 1),
        lambda text: ConditionRequest(text, 0, 1),
        lambda text: Refusal("A", text),
        lambda text: SiteInfo("A", 1, 1, torch_masks(), 0, 1, text, ""),
        lambda text: SiteInfo("A", 1, 1, torch_masks(), 0, 1, "", text),
    ],
)
def test_no_other_text_crosses_in_either_direction(monkeypatch, bad, make):
    assert not is_text(BAD[bad])
    with pytest.raises(ValueError, match="expected text of up to 300 printable characters"):
        Codec().encode(make(BAD[bad]))
    # from somebody who does not look
    with monkeypatch.context() as patch:
        patch.setattr("bundle.wire.codec.check_fields", lambda cls, values: None)
        data = Codec().encode(make(BAD[bad]))
    with pytest.raises(ValueError, match="expected text of up to 300 printable characters") as caught:
        Codec().decode(data)
    assert str(caught.value).isprintable()


def torch_masks():
    import torch

    return torch.zeros(1, 1, 2, 2, dtype=torch.uint8)


@pytest.mark.parametrize("value", [None, 1, b"A", ["A"]])
def test_what_is_no_text_is_none(value):
    assert not is_text(value)


@pytest.mark.parametrize("bad", BAD)
def test_anything_can_be_shown(bad):
    assert is_text(shown(BAD[bad]))
    assert is_text(shown(ValueError(BAD[bad] * 1000)))
    assert shown("A\n\x1b[2J") == r"A\n\x1b[2J"


def logged(formatter, message, *arguments, error=None):
    """The lines that a handler would write."""
    record = logging.LogRecord("bundle.x", logging.ERROR, "x.py", 1, message, arguments, None)
    if error is not None:
        try:
            raise error
        except Exception:
            record.exc_info = sys.exc_info()
            logging.Formatter().format(record)  # another handler was before
    return formatter.format(record).split("\n")


FORGED = "no\n12:00:00 ERROR bundle.server.roster: site B is left out\x1b[2K"


@pytest.mark.parametrize(
    "formatter",
    [
        EscapingFormatter("%(levelname)s %(message)s"),
        console("%(levelname)s %(message)s").formatter,
        escaping("logging.Formatter", fmt="%(levelname)s %(message)s"),
    ],
)
def test_a_record_is_one_line_and_its_traceback_is_indented(formatter):
    assert logged(formatter, "refused: %s", FORGED) == [
        r"ERROR refused: no\n12:00:00 ERROR bundle.server.roster: site B is left out\x1b[2K"
    ]
    first, *others = logged(formatter, "site %s", "A\r", error=ValueError(FORGED))
    assert first == r"ERROR site A\r"
    assert len(others) > 3
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert r"site B is left out\x1b[2K" in others[-1]


def test_the_bundles_own_logging_escapes(capsys, monkeypatch):
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logging.config.fileConfig(ROOT / "configs" / "logging.conf", disable_existing_loggers=False)
        escape_logs()
        logging.getLogger("bundle.x").error("refused: %s", FORGED)
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].endswith(r"site B is left out\x1b[2K")


def test_flares_logging_escapes_on_the_console_and_in_its_files(tmp_path):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    from nvflare.fuel.utils import log_utils

    from bundle.flare.logs import quiet

    default = Path(log_utils.__file__).with_name(log_utils.DEFAULT_LOG_JSON)
    config = json.loads(json.dumps(quiet(json.loads(default.read_text(encoding="utf-8")))))
    for name, formatter in config["formatters"].items():
        made = logging.config.DictConfigurator({"version": 1}).configure_formatter(dict(formatter))
        lines = logged(made, "refused: %s", FORGED)
        assert len(lines) == 1, name
        assert lines[0].isprintable()
        assert len(logged(made, "x", error=ValueError(FORGED))) == (1 if name == "jsonFormatter" else 6)
    used = {handler["formatter"] for handler in config["handlers"].values()}
    assert used <= config["formatters"].keys()
