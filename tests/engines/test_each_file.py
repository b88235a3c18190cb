"""Every file by itself: the unusable are named, the others are done."""

import pytest
import torch
from ignite.engine import Events
from monai.data import Dataset
from monai.engines import SupervisedEvaluator

from bundle.engines import run_each_file

FILES = ["a", "b", "c", "d", "e"]


def read(item):
    if item["image"] in ("a", "c"):
        raise ValueError(f"{item['image']} is broken" if item["image"] == "a" else "broken")
    return {"image": torch.full((1, 4, 4), float(ord(item["image"]))), "name": item["image"]}


class Network(torch.nn.Module):
    def forward(self, x):
        if x.mean() == ord("d"):
            raise RuntimeError("too large")
        return x + 1


def evaluator(dataset, done, handlers=None):
    def keep(item):
        done[item["name"]] = float(item["pred"].mean()) - ord(item["name"])
        return item

    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=torch.utils.data.DataLoader(dataset, batch_size=1),
        network=Network(),
        postprocessing=keep,
        val_handlers=handlers,
        prepare_batch=lambda batch, *_, **__: (batch["image"], None),
    )


@pytest.fixture
def dataset():
    return Dataset([{"image": name} for name in FILES], read)


def test_each_usable_file_is_done_wherever_the_others_stand(dataset, capsys):
    done = {}
    with pytest.raises(SystemExit, match="3 of 5 files of datalist could not be used"):
        run_each_file(evaluator(dataset, done), dataset, "image", "datalist")
    assert capsys.readouterr().err.splitlines() == [
        "error: a is broken",
        "error: c cannot be used: broken",
        "error: d cannot be used: too large",
    ]
    assert done == {"b": 1.0, "e": 1.0}


def test_good_files_end_without_a_word(capsys):
    files, done = Dataset([{"image": name} for name in "be"], read), {}
    run_each_file(evaluator(files, done), files, "image", "datalist")
    assert list(done) == ["b", "e"]
    assert capsys.readouterr().err == ""


def test_what_is_no_file_s_fault_ends_it_at_once(dataset, capsys):
    class Weights:
        def attach(self, engine):
            engine.add_event_handler(Events.STARTED, self)

        def __call__(self, engine):
            raise FileNotFoundError("model.pt")

    done = {}
    with pytest.raises(FileNotFoundError, match=r"model\.pt"):
        run_each_file(evaluator(dataset, done, [Weights()]), dataset, "image", "datalist")
    assert done == {}
    assert capsys.readouterr().err == ""


def test_an_interruption_is_none_of_a_file():
    def interrupted(item):
        raise KeyboardInterrupt

    files = Dataset([{"image": "b"}, {"image": "e"}], interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_each_file(evaluator(files, {}), files, "image", "datalist")
