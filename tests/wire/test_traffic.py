from bundle.wire import WireLedger


def test_counts_by_site_and_direction_and_resumes():
    ledger = WireLedger()
    ledger.sent("B", 10)
    ledger.sent("B", 5)
    ledger.received("A", 7)
    ledger.steps = 3
    resumed = WireLedger()
    resumed.load_state_dict(ledger.state_dict())
    ledger.sent("A", 1)
    assert resumed.summary() == {
        "bytes_to_sites": 15,
        "bytes_from_sites": 7,
        "messages_to_sites": 2,
        "messages_from_sites": 1,
        "steps": 3,
        "per_site": {"A": {"to": 0, "from": 7}, "B": {"to": 15, "from": 0}},
    }
    assert ledger.summary()["per_site"]["A"] == {"to": 1, "from": 7}


def test_nothing_sent_is_a_summary_too():
    summary = WireLedger().summary()
    assert summary["per_site"] == {}
    assert not any(value for key, value in summary.items() if key != "per_site")


def test_a_state_without_counts_of_messages_goes_on():
    ledger = WireLedger()
    ledger.load_state_dict({"to_sites": {"A": 4}, "from_sites": {}, "steps": 1})
    ledger.received("new", 3)
    assert ledger.summary()["bytes_to_sites"] == 4
    assert ledger.summary()["messages_from_sites"] == 1
    assert ledger.summary()["per_site"]["new"] == {"to": 0, "from": 3}
