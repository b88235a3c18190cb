import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from bundle.report import read_scalars


def write_events(folder, scalars, suffix):
    """One event file of (tag, step, value, wall time); returns its path."""
    before = set(folder.glob("*"))
    writer = EventFileWriter(str(folder), filename_suffix=suffix)
    for tag, step, value, wall_time in scalars:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.add_event(Event(step=step, wall_time=wall_time, summary=summary))
    writer.close()
    (path,) = set(folder.glob("*")) - before
    return path


def test_a_resumed_run_is_merged_and_the_later_value_wins(tmp_path):
    # The suffixes make the later file sort first: names must not decide.
    write_events(tmp_path, [("loss/a/l1", s, s / 10, 100.0 + s) for s in range(1, 7)], ".z")
    write_events(tmp_path, [("loss/a/l1", s, s * 1.0, 200.0 + s) for s in range(5, 9)], ".a")
    steps, values = read_scalars(tmp_path)["loss/a/l1"]
    assert steps.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(values, [0.1, 0.2, 0.3, 0.4, 5, 6, 7, 8], rtol=1e-6)
    assert steps.dtype == np.int64
    assert values.dtype == np.float64


def test_a_step_repeated_in_one_file_keeps_the_last(tmp_path):
    write_events(tmp_path, [("t", 1, 1.0, 10.0), ("t", 2, 2.0, 10.0), ("t", 1, 3.0, 10.0)], "")
    steps, values = read_scalars(tmp_path)["t"]
    assert (steps.tolist(), values.tolist()) == ([1, 2], [3.0, 2.0])


def test_nothing_is_subsampled(tmp_path):
    write_events(tmp_path, [("t", s, 0.0, 1.0 + s) for s in range(12_000)], "")
    assert len(read_scalars(tmp_path)["t"][0]) == 12_000


def test_tags_are_kept_apart_and_values_need_not_be_finite(tmp_path):
    write_events(tmp_path, [("b", 1, float("nan"), 1.0), ("a", 3, 2.0, 2.0)], "")
    curves = read_scalars(tmp_path)
    assert list(curves) == ["a", "b"]
    assert np.isnan(curves["b"][1]).all()


def test_the_cut_end_of_a_killed_writer_is_ignored(tmp_path):
    path = write_events(tmp_path, [("t", s, 1.0, 1.0 + s) for s in range(50)], "")
    path.write_bytes(path.read_bytes()[:-7])
    assert read_scalars(tmp_path)["t"][0].tolist() == list(range(49))


def test_no_events_and_no_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert read_scalars(tmp_path) == {}
    with pytest.raises(FileNotFoundError, match="absent"):
        read_scalars(tmp_path / "absent")
