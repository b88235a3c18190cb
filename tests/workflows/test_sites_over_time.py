"""A training that goes on from an earlier one with other sites, in one process."""

import shutil

import pytest
import torch
from ignite.engine import Events
from one_process import CONFIGS, train_in_one_process

from bundle.data import load_datalist, write_site_lists
from bundle.data.datalist import write_part
from bundle.phantoms.gaussian import write_mixture
from bundle.server import read_conditions
from bundle.server.replay import read_replay
from bundle.workflows import DistributedGANWorkflow

SIZES = {"num_steps": 4, "epoch_length": 2, "batch_size": 4, "generator_channels": 8, "discriminator_channels": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """From names of sites to the folder of a data list of theirs."""
    folder = tmp_path_factory.mktemp("data")
    write_mixture(folder / "toy", draws=[40, 16, 24], test_draws=50)
    datalist = load_datalist(folder / "toy")
    write_site_lists(datalist, folder / "alone")

    def some(names):
        items = [item for item in datalist.training if item["site"] in names]
        return write_part(datalist, folder / names, names, items, []).parent

    return some


def train(dataset_dir, run_dir, **more):
    return train_in_one_process(("train.yaml", "gaussian.yaml"), dataset_dir, run_dir, SIZES | more)


@pytest.fixture(scope="module")
def first(data, tmp_path_factory):
    """A training of the sites 1 and 2: its folder, and its workflow."""
    run_dir = tmp_path_factory.mktemp("first")
    workflow = train(data("12"), run_dir)
    return run_dir / "seed_0" / "asyndgan", workflow


@pytest.fixture
def earlier(first, tmp_path):
    """A copy of its folder, to change."""
    return shutil.copytree(first[0], tmp_path / "first")


def load(folder):
    return torch.load(folder / "gan" / "checkpoints" / "latest.pt", weights_only=True)


def made(data, tmp_path, names, earlier, **more):
    """The workflow of a second training, and its trainer before its first step."""
    workflow = DistributedGANWorkflow(
        config_file=[str(CONFIGS / name) for name in ("train.yaml", "gaussian.yaml")],
        bundle_root=str(tmp_path),
        dataset_dir=str(data(names)),
        run_dir=str(tmp_path / "second"),
        device="cpu",
        earlier=None if earlier is None else str(earlier),
        **SIZES | more,
    )
    workflow.initialize()
    return workflow


def test_generator_optimiser_and_the_critics_of_those_who_stay_go_on(data, tmp_path, earlier, first):
    workflow = made(data, tmp_path, "23", earlier)
    trainer = workflow.make("train::trainer")
    before = load(earlier)
    rate = trainer.optimizer.param_groups[0]["lr"]
    seen = {}
    trainer.federation.exchange = lambda batches: seen.update(
        generator={key: value.clone() for key, value in trainer.generator.state_dict().items()},
        optimizer=trainer.optimizer.state_dict(),
        rate=trainer.optimizer.param_groups[0]["lr"],
    )
    with pytest.raises(AttributeError):  # it is called, and answers nothing
        trainer.run()
    torch.testing.assert_close(seen["generator"], before["generator"], rtol=0, atol=0)
    torch.testing.assert_close(seen["optimizer"]["state"], before["optimizer"]["state"], rtol=0, atol=0)
    assert seen["rate"] == rate > 0 == before["optimizer"]["param_groups"][0]["lr"]
    critics = before["federation"]["sites"]
    stayed, new = (trainer.federation.site(name).state_dict() for name in "23")
    torch.testing.assert_close(stayed["discriminator"], critics["2"]["discriminator"], rtol=0, atol=0)
    assert (stayed["trained"], new["trained"]) == (0, 0)
    fresh = made(data, tmp_path, "23", None).make("federation_def").site("3").state_dict()
    torch.testing.assert_close(new["discriminator"], fresh["discriminator"], rtol=0, atol=0)


def test_a_site_that_has_left_is_replayed_over_as_many_times_as_there_are(data, tmp_path, earlier):
    workflow = train(data("23"), tmp_path / "second", earlier=str(earlier))
    second = tmp_path / "second" / "seed_0" / "asyndgan"
    kept = read_replay(second / "gan" / "replay")
    assert list(kept) == ["1"]
    assert len(kept["1"][0]) == 40
    torch.testing.assert_close(dict(kept["1"][1]), dict(load(earlier)["average"]), rtol=0, atol=0)
    assert "L1 to the generator of before" in workflow.make("replay").describe()
    assert sorted(read_conditions(second / "gan" / "conditions.npz")) == ["2", "3"]
    # at a third time 2 leaves as well, and 1 comes back: it is no longer replayed
    train(data("13"), tmp_path / "third", earlier=str(second))
    later = read_replay(tmp_path / "third" / "seed_0" / "asyndgan" / "gan" / "replay")
    assert list(later) == ["2"]
    train(data("3"), tmp_path / "other", earlier=str(second))
    later = read_replay(tmp_path / "other" / "seed_0" / "asyndgan" / "gan" / "replay")
    assert list(later) == ["1", "2"]
    # of each the generator of the time when it left
    torch.testing.assert_close(dict(later["1"][1]), dict(kept["1"][1]), rtol=0, atol=0)
    torch.testing.assert_close(dict(later["2"][1]), dict(load(second)["average"]), rtol=0, atol=0)


def test_an_interrupted_one_goes_on_with_the_bits_of_an_uninterrupted_one(data, tmp_path, earlier):
    whole = train(data("3"), tmp_path / "whole", earlier=str(earlier)).make("network")
    trainer = made(data, tmp_path, "3", earlier).make("train::trainer")

    @trainer.on(Events.ITERATION_STARTED(once=3))
    def kill(engine):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    trainer.federation.site("3").gate.close()  # as the end of its process does
    trainer = made(data, tmp_path, "3", earlier).make("train::trainer")
    trainer.run()
    torch.testing.assert_close(dict(whole.state_dict()), dict(trainer.generator.state_dict()), rtol=0, atol=0)


def test_a_site_whose_conditions_may_not_be_kept_is_not_replayed(data, tmp_path, capsys):
    train(data("12"), tmp_path / "first", keep_conditions={"1": False, "2": True})
    train(data("3"), tmp_path / "second", earlier=str(tmp_path / "first" / "seed_0" / "asyndgan"))
    assert list(read_replay(tmp_path / "second" / "seed_0" / "asyndgan" / "gan" / "replay")) == ["2"]
    assert "site 1 has left and let no conditions be kept: nothing reminds of it" in capsys.readouterr().out


def test_of_a_site_that_is_to_be_forgotten_nothing_is_kept_at_the_server(data, tmp_path, earlier, capsys):
    train(data("23"), tmp_path / "second", earlier=str(earlier))
    second = tmp_path / "second" / "seed_0" / "asyndgan"
    train(data("2"), tmp_path / "third", earlier=str(second), forget=["1", "3"])
    third = tmp_path / "third" / "seed_0" / "asyndgan"
    for folder in (earlier, second, third):
        assert not {"1", "3"} & read_conditions(folder / "gan" / "conditions.npz").keys(), folder
        assert read_replay(folder / "gan" / "replay") == {}, folder
    assert sorted(read_conditions(earlier / "gan" / "conditions.npz")) == ["2"]
    assert (
        "of sites 1, 3 nothing is kept that it released; what the generator has learned from it stays"
        in capsys.readouterr().out
    )
    # the generator is the one that has learned from them all the same
    assert "L1 to the generator" not in (third / "gan" / "record.json").read_text()


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        ("23", {"forget": ["4"]}, r"forget: 4 took part in no training before; those that did are 1, 2 \(.*first\)"),
        ("23", {"forget": ["2"]}, r"forget: 2 is a site of this training: 2, 3\. Leave it out of the list"),
        ("23", {"discriminator_channels": 4}, "site 2 comes back with other settings than it had in the earlier"),
        ("3", {"generator_channels": 4}, "earlier: the generator of .*first is not one of generator_def here"),
        (
            "23",
            {"sites_per_step": 3},
            r"sites_per_step: expected .* from 1 to 2, the number of sites .* \(2, 3\), got 3",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_training(data, tmp_path, earlier, names, more, message):
    with pytest.raises(ValueError, match=message):
        train(data(names), tmp_path / "second", earlier=str(earlier), **more)
    assert not list((tmp_path / "second").rglob("*.pt"))
    assert sorted(read_conditions(earlier / "gan" / "conditions.npz")) == ["1", "2"]


def test_other_classes_are_refused(data, tmp_path, earlier):
    groups = {"component 1": [1], "component 2": [3], "component 3": [2]}
    with pytest.raises(
        ValueError, match=r"earlier: .*first is of label_groups .* what its generator has learned would"
    ):
        train(data("3"), tmp_path / "second", earlier=str(earlier), label_groups=groups)


def test_forgetting_without_an_earlier_training_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="forget names site 1, and no earlier training"):
        train(data("23"), tmp_path / "second", forget=["1"])


def test_an_earlier_training_that_is_none_is_refused(data, tmp_path):
    with pytest.raises(
        ValueError, match=r"earlier: expected the folder of a training, .*, with gan/checkpoints/latest\.pt in it, got "
    ):
        train(data("23"), tmp_path / "second", earlier=str(tmp_path))


def test_going_on_from_itself_is_refused(data, tmp_path):
    train(data("12"), tmp_path / "second")
    own = tmp_path / "second" / "seed_0" / "asyndgan"
    (own / "gan" / "record.json").unlink()
    (own / "gan" / "config.yaml").unlink()
    with pytest.raises(ValueError, match="is the folder of this very training: choose another run_dir"):
        train(data("12"), tmp_path / "second", earlier=str(own))
