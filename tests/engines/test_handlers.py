"""What the handlers leave when a run completes, fails, or is taken up again."""

import json
import logging
import struct

import pytest
import torch
from ignite.engine import Engine, Events

import bundle.engines.handlers as handlers
from bundle.engines import AtomicCheckpointSaver, CaseMetricsSaver, Progress, Resume, TrainingRecord, WeightsSaver


class Run:
    """An engine that adds 1 to a weight per step, with the handlers of our configs, and a clock that it moves."""

    def __init__(self, folder, clock=None, fail_at=None, identity=None):
        self.folder, self.clock = folder, clock if clock is not None else [0.0]
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.network.weight)
        self.fail_at = fail_at
        self.engine = Engine(self.step)
        self.engine.logger.setLevel(logging.WARNING)
        objects = {"network": self.network}
        Resume(str(folder / "latest.pt"), objects, identity=identity).attach(self.engine)
        AtomicCheckpointSaver(str(folder), objects, identity=identity).attach(self.engine)
        WeightsSaver(str(folder / "weights.pt"), self.network).attach(self.engine)
        TrainingRecord(str(folder / "record.json"), {"name": "toy", "weight": self.weight}).attach(self.engine)

    def step(self, engine, batch):
        if engine.state.iteration == self.fail_at:
            raise RuntimeError("the process ends here")
        with torch.no_grad():
            self.network.weight += 1
        self.clock[0] += 2.0
        return engine.state.iteration

    def weight(self):
        return self.network.weight.item()

    def __call__(self, epochs=4):
        return self.engine.run(range(3), max_epochs=epochs, epoch_length=3)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(handlers.time, "monotonic", lambda: now[0])
    return now


def record(folder):
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


def load(path):
    return torch.load(path, weights_only=True)


def test_a_save_that_fails_midway_leaves_the_former_checkpoint_whole(tmp_path, monkeypatch):
    Run(tmp_path)(epochs=1)
    before = (tmp_path / "latest.pt").read_bytes()
    save = torch.save

    def disk_full(content, file, *args, **kwargs):
        save(content, file, *args, **kwargs)
        file.truncate(100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        Run(tmp_path)(epochs=2)
    assert (tmp_path / "latest.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.pt", "record.json", "weights.pt"]
    monkeypatch.undo()
    run = Run(tmp_path)
    run(epochs=2)
    assert run.weight() == 6


def test_checkpoints_replace_each_other_under_one_name(tmp_path):
    seen = []
    run = Run(tmp_path)
    run.engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: seen.append([p.name for p in tmp_path.iterdir() if p.is_file()])
    )
    run()
    assert [sorted(names) for names in seen] == [["latest.pt"]] + [["latest.previous.pt", "latest.pt"]] * 3
    assert load(tmp_path / "latest.previous.pt")["trainer"]["iteration"] == 9
    checkpoint = load(tmp_path / "latest.pt")
    assert checkpoint["network"]["weight"].item() == 12
    assert checkpoint["trainer"]["iteration"] == 12


def test_interval_of_checkpoints(tmp_path):
    network = torch.nn.Linear(1, 1)
    engine = Engine(lambda engine, batch: None)
    AtomicCheckpointSaver(str(tmp_path), {"network": network}, save_interval=2, filename="model.pt").attach(engine)
    seen = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append((tmp_path / "model.pt").exists()))
    engine.run(range(3), max_epochs=3)
    assert seen == [False, True, True]
    assert load(tmp_path / "model.pt")["trainer"]["iteration"] == 6


def test_resume_goes_on_after_the_last_checkpoint_and_counts_no_step_twice(tmp_path):
    with pytest.raises(RuntimeError, match="ends here"):
        Run(tmp_path, fail_at=8)()
    run = Run(tmp_path)
    steps = []
    run.engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: steps.append(e.state.iteration))
    run()
    assert steps == list(range(7, 13))
    assert run.weight() == 12
    assert load(tmp_path / "weights.pt")["weight"].item() == 12


def test_resume_without_a_checkpoint_is_a_start(tmp_path):
    run = Run(tmp_path)
    run(epochs=1)
    assert run.weight() == 3


def test_a_run_killed_after_its_last_checkpoint_completes_without_a_step(tmp_path):
    Run(tmp_path)()
    weights, before = (tmp_path / "weights.pt").read_bytes(), record(tmp_path)
    (tmp_path / "weights.pt").unlink()
    (tmp_path / "record.json").unlink()
    Run(tmp_path, fail_at=13)()
    assert (tmp_path / "weights.pt").read_bytes() == weights
    assert record(tmp_path)["steps"] == before["steps"] == 12


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "missing"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_gone_on_from(tmp_path, caplog, damage):
    with pytest.raises(RuntimeError, match="ends here"):
        Run(tmp_path, fail_at=8)()
    latest = tmp_path / "latest.pt"
    content = bytearray(latest.read_bytes())
    content[content.index(struct.pack("<f", 6.0))] ^= 1
    latest.write_bytes({"truncated": content[:-200], "empty": b"", "flipped": bytes(content)}.get(damage, b""))
    if damage == "missing":
        latest.unlink()
    run = Run(tmp_path)
    steps = []
    run.engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: steps.append(e.state.iteration))
    run()
    assert steps == list(range(4, 13))
    assert run.weight() == 12
    assert (f"the checkpoint {latest} is damaged" in caplog.text) == (damage != "missing")
    assert (tmp_path / "latest.damaged.pt").exists() == (damage != "missing")


def test_without_a_whole_checkpoint_the_words_name_the_file(tmp_path):
    Run(tmp_path)(epochs=2)
    for name in ("latest.pt", "latest.previous.pt"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"previous\.pt is damaged: .*; there is no other one\. Restore it"):
        Run(tmp_path)()
    (tmp_path / "latest.previous.pt").unlink()
    (tmp_path / "latest.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"latest\.pt is damaged: .*; there is no other one\. Restore it"):
        Run(tmp_path)()


def test_a_checkpoint_of_another_run_is_refused_and_left(tmp_path):
    Run(tmp_path, identity={"seed": 0, "config": lambda: "a"})(epochs=1)
    before = (tmp_path / "latest.pt").read_bytes()
    for other in ({"seed": 1, "config": "a"}, {"seed": 0, "config": "b"}, {"seed": 0}, {}):
        with pytest.raises(ValueError, match=r"latest\.pt is of another training: (seed|config) .*, expected "):
            Run(tmp_path, identity=other)()
    assert (tmp_path / "latest.pt").read_bytes() == before
    run = Run(tmp_path, identity={"seed": 0, "config": lambda: "a"})
    run(epochs=2)
    assert run.weight() == 6


def test_weights_and_record_only_when_completed(tmp_path):
    with pytest.raises(RuntimeError, match="ends here"):
        Run(tmp_path, fail_at=12)()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.previous.pt", "latest.pt"]


def test_equal_weights_are_equal_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Run(tmp_path / name)()
    assert (tmp_path / "a/weights.pt").read_bytes() == (tmp_path / "b/weights.pt").read_bytes()


def test_seconds_add_up_over_an_interruption_and_leave_out_the_break(tmp_path, clock):
    with pytest.raises(RuntimeError, match="ends here"):
        Run(tmp_path, clock, fail_at=7)()
    clock[0] += 1e6
    Run(tmp_path, clock)()
    assert record(tmp_path) == {
        "steps": 12,
        "seconds": 24.0,
        "seconds_per_step": 2.0,
        "name": "toy",
        "weight": 12.0,
    }


def test_where_the_seconds_went_adds_up_over_an_interruption(tmp_path, clock):
    def run(fail_at=None):
        def step(engine, batch):
            if engine.state.iteration == fail_at:
                raise RuntimeError("the process ends here")
            return [{"seconds": {"generator": 0.5, "sites": 1.5}}]

        engine, network = Engine(step), torch.nn.Linear(1, 1)
        engine.logger.setLevel(logging.WARNING)
        Resume(str(tmp_path / "latest.pt"), {"network": network}).attach(engine)
        AtomicCheckpointSaver(str(tmp_path), {"network": network}).attach(engine)
        TrainingRecord(str(tmp_path / "record.json")).attach(engine)
        engine.run(range(3), max_epochs=4, epoch_length=3)

    with pytest.raises(RuntimeError, match="ends here"):
        run(fail_at=8)
    run()
    assert record(tmp_path)["seconds_by_part"] == {"generator": 6.0, "sites": 18.0}


def progress(name, clock, epochs=2, **arguments):
    def step(engine, batch):
        clock[0] += 0.5
        return {"loss": engine.state.iteration / 8}

    engine = Engine(step)
    Progress(name, **arguments).attach(engine)
    return engine


def test_progress_lines_say_how_far_and_how_long(clock, caplog, monkeypatch):
    monkeypatch.setattr(handlers.sys.stderr, "isatty", lambda: False, raising=False)
    caplog.set_level(logging.INFO, logger="bundle")
    engine = progress("training syn all", clock, interval=3, output_transform=lambda output: output)
    engine.run(range(4), max_epochs=2)
    assert [r.message for r in caplog.records if r.name == "bundle.training_syn_all"] == [
        "training syn all 3/8 · 0.5 s each · 2 s left · loss 0.375",
        "training syn all 6/8 · 0.5 s each · 1 s left · loss 0.75",
        "training syn all 8/8 · 0.5 s each · 0 s left · loss 1",
    ]


def test_progress_of_a_resumed_run_counts_its_own_steps_only(clock, caplog, monkeypatch):
    monkeypatch.setattr(handlers.sys.stderr, "isatty", lambda: False, raising=False)
    caplog.set_level(logging.INFO, logger="bundle")
    engine = progress("t", clock, interval=5)

    @engine.on(Events.STARTED)
    def resume(engine):
        engine.load_state_dict({"epoch_length": 4, "max_epochs": 2, "iteration": 4})

    engine.run(range(4), max_epochs=2)
    assert [r.message for r in caplog.records] == ["t 5/8 · 0.5 s each · 2 s left", "t 8/8 · 0.5 s each · 0 s left"]


def evaluate(path, values, cases, **arguments):
    engine = Engine(lambda engine, batch: None)
    CaseMetricsSaver(str(path), **arguments).attach(engine)

    @engine.on(Events.EPOCH_COMPLETED)
    def compute(engine):
        engine.state.metrics = dict.fromkeys(values, 0.0)
        engine.state.metric_details = values

    engine.run([[{"case": case, "site": case.upper()} for case in batch] for batch in cases])
    return engine


def test_metrics_per_case_and_their_mean(tmp_path):
    path = tmp_path / "metrics.json"
    dice, hd95 = torch.tensor([[0.25], [0.5], [0.75]]), torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 8.0]])
    evaluate(path, {"dice": dice, "hd95": hd95}, [["b", "a"], ["c"]], content={"setting": "real_all"})
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "setting": "real_all",
        "metrics": {
            "dice": {"mean": 0.5, "per_case": {"b": 0.25, "a": 0.5, "c": 0.75}},
            "hd95": {"mean": 8 / 3, "per_case": {"b": 2.0, "a": 2.0, "c": 4.0}},
        },
    }


def test_chosen_metrics_and_a_second_evaluation_starts_anew(tmp_path):
    path = tmp_path / "metrics.json"
    engine = evaluate(path, {"dice": torch.ones(2, 1), "hd95": torch.ones(2, 1)}, [["a"], ["b"]], metrics=["dice"])
    engine.run([[{"case": "a"}], [{"case": "b"}]])
    assert json.loads(path.read_text(encoding="utf-8"))["metrics"] == {
        "dice": {"mean": 1.0, "per_case": {"a": 1.0, "b": 1.0}}
    }


def test_groups_of_cases_are_also_averaged_apart(tmp_path):
    path = tmp_path / "metrics.json"
    groups = {"here": lambda item: item["site"] in "AB", "elsewhere": lambda item: False, "c": lambda item: True}
    scores = torch.tensor([[0.25], [0.75], [float("nan")]])
    engine = evaluate(path, {"aji": scores}, [["a", "b"], ["c"]], groups=groups)
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    assert list(metrics) == ["aji", "aji/here", "aji/c"]  # a group without cases has no mean
    assert metrics["aji/here"] == {"mean": 0.5, "per_case": {"a": 0.25, "b": 0.75}}
    assert metrics["aji/c"] == metrics["aji"]
    engine.run([[{"case": name, "site": "Z"}] for name in "abc"])
    assert list(json.loads(path.read_text(encoding="utf-8"))["metrics"]) == ["aji", "aji/c"]
