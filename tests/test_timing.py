from bundle.timing import Laps


def test_parts_have_no_gaps_and_are_taken_once():
    now = [100.0]
    laps = Laps(lambda: now[0])

    def lap(part, passed):
        now[0] += passed
        return laps.lap(part)

    # the first lap starts the clock, whatever passed before
    assert [lap("other", 5), lap("G", 2), lap("sites", 3), lap("G", 0.5)] == [0, 2, 3, 0.5]
    assert laps.take() == {"other": 0, "G": 2.5, "sites": 3}
    assert lap("other", 1) == 1
    assert laps.take() == {"other": 1}
    assert laps.take() == {}
