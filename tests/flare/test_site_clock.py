"""What a site writes to its own log of the time that its steps take."""

import logging

import pytest
from small_sites import sites

from bundle.flare import site_clock
from bundle.flare.site_clock import SiteClock
from bundle.site import SiteStore


@pytest.fixture
def clock(monkeypatch):
    """A clock of the site whose wall time and CPU time the test moves."""
    now = {"wall": 0.0, "cpu": 0.0}
    made = SiteClock()
    monkeypatch.setattr(made._wall, "_now", lambda: now["wall"])
    monkeypatch.setattr(made._cpu, "_now", lambda: now["cpu"])

    def message(site, trained, waiting=4.0):
        now["wall"] += waiting
        with made.message():
            now["wall"] += 0.25
            made.decoded()
            now["wall"], now["cpu"] = now["wall"] + 2.0, now["cpu"] + 1.5
            site.trained = trained
            made.computed(site)
            now["wall"] += 0.25

    return message


def test_a_line_at_every_checkpoint_gives_the_means_since_the_last(clock, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger=site_clock.__name__)
    (site,) = sites({"A": 3}, store=lambda name: SiteStore(tmp_path / name, interval=2))
    clock(site, 0)  # it opens: that counts with the first steps
    for step in range(1, 7):
        clock(site, step, waiting=8.0 if step > 4 else 4.0)
    clock(site, 6)  # the same answer again
    clock(site, 5)  # it went back
    assert [record.message for record in caplog.records] == [
        "site A · step 2: 3 s computing (2.25 s of CPU), 0.625 s for messages, 4 s waiting a step",
        "site A · step 4: 2 s computing (1.5 s of CPU), 0.5 s for messages, 4 s waiting a step",
        "site A · step 6: 2 s computing (1.5 s of CPU), 0.5 s for messages, 8 s waiting a step",
    ]


def test_a_site_without_checkpoints_of_its_own_says_nothing(clock, caplog):
    caplog.set_level(logging.INFO, logger=site_clock.__name__)
    (site,) = sites({"A": 3})
    for step in range(60):
        clock(site, step)
    assert not caplog.records
