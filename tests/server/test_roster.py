"""The roster's account of sites, and what it says of it."""

import logging

from bundle.server.roster import Roster


def said(caplog):
    """Level and text of what was said since the last time."""
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


def test_a_site_that_stays_away_is_news_once_and_again_when_something_changes(caplog):
    caplog.set_level(logging.DEBUG, "bundle")
    roster = Roster("AB", rejoin_interval=10)
    roster.start(1, {})
    for site in "AB":
        roster.opened(site, 1, 0)
        roster.answered(site, 1)
    assert said(caplog) == []
    roster.failed("B", 2, "no answer")
    assert said(caplog) == [("WARNING", "step 2 goes without site B: no answer")]
    for step in (12, 22, 32):
        assert roster.due(step) == ["B"]
        roster.failed("B", step, "no answer")
        assert said(caplog) == [("DEBUG", f"step {step} goes without site B: no answer")]
    roster.failed("B", 42, "refused")
    assert said(caplog) == [("WARNING", "step 42 goes without site B: refused")]
    roster.failed("B", 52, "refused")
    assert [level for level, _ in said(caplog)] == ["DEBUG"]
    roster.opened("B", 62, 1)
    assert said(caplog) == [("INFO", "step 62: site B is back, trained up to step 1")]
    # that it fails for the same reason as before is news now
    roster.failed("B", 63, "refused")
    assert [level for level, _ in said(caplog)] == ["WARNING"]
    assert roster.record["B"]["failures"] == 7


def test_a_site_that_was_never_there_is_news_once(caplog):
    caplog.set_level(logging.DEBUG, "bundle")
    roster = Roster("AB", rejoin_interval=1)
    roster.start(5, {"A": {"last_step": 4, "answered": 4}})
    for step in (5, 6):
        roster.failed("B", step, "was not there when the job started")
    assert [level for level, _ in said(caplog)] == ["WARNING", "DEBUG"]


def test_every_strike_is_news(caplog):
    caplog.set_level(logging.DEBUG, "bundle")
    roster = Roster("A", max_strikes=2)
    roster.start(1, {})
    for step in (1, 2):
        roster.struck("A", step, "not finite")
    assert [level for level, _ in said(caplog)] == ["WARNING", "WARNING", "ERROR"]
    assert (roster.record["A"]["state"], roster.due(99)) == ("left out", [])
