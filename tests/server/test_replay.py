"""The reminding loss, by itself and in a step."""

import numpy as np
import pytest
import torch
from small_sites import federation, generator

from bundle.seeding import forked_rng
from bundle.server import DistributedGanTrainer, Replay
from bundle.server.replay import read_replay, write_replay


class Noisy(torch.nn.Module):
    """A generator that draws z."""

    def __init__(self):
        super().__init__()
        self.net = generator()

    def forward(self, x):
        return torch.tanh(self.net(x) + torch.randn(len(x), 1, 1, 1))


def conditions(count, seed, size=8):
    return list(np.random.default_rng(seed).integers(0, 2, (count, 2, size, size), dtype=np.uint8))


def seeded(seed, make=generator):
    with forked_rng(seed):
        return make()


def kept(folder, make=generator):
    write_replay(
        folder,
        {
            "gone": (conditions(3, 0), seeded(1, make).state_dict()),
            "older": (conditions(2, 1, size=6), seeded(2, make).state_dict()),
        },
    )
    return folder


def test_it_is_the_mean_distance_to_the_generator_of_the_time_when_the_site_left(tmp_path):
    replay = Replay(kept(tmp_path), batch_size=5)
    network = seeded(3)
    found = replay.loss(network, 1, "cpu")
    # a batch as large as the pool is all of it
    terms = [
        (network(x) - seeded(seed)(x)).abs().mean()
        for seed, own in ((1, conditions(3, 0)), (2, conditions(2, 1, size=6)))
        for x in (torch.from_numpy(condition)[None].float() for condition in own)
    ]
    torch.testing.assert_close(found, torch.stack(terms).mean())
    found.backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("make", [generator, Noisy])
def test_a_generator_that_has_forgotten_nothing_is_not_moved(tmp_path, make):
    write_replay(tmp_path, {"gone": (conditions(3, 0), seeded(1, make).state_dict())})
    network = seeded(1, make)
    loss = Replay(tmp_path, batch_size=4).loss(network, 7, "cpu")
    assert loss == 0  # both draw the same z
    loss.backward()
    assert all((p.grad == 0).all() for p in network.parameters())


def test_it_depends_on_seed_and_step_alone(tmp_path):
    kept(tmp_path, Noisy)
    network = seeded(3, Noisy)

    def losses(steps, seed=0):
        replay = Replay(tmp_path, batch_size=2, seed=seed)
        return {step: replay.loss(network, step, "cpu").item() for step in steps}

    every = losses(range(1, 9))
    torch.rand(3)
    assert losses([8, 3]) == {8: every[8], 3: every[3]}
    assert losses(range(1, 9), seed=1) != every


def test_nothing_is_kept_of_those_that_are_written_no_more(tmp_path):
    kept(tmp_path)
    write_replay(tmp_path, {"older": read_replay(tmp_path)["older"]})
    assert list(read_replay(tmp_path)) == ["older"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conditions.npz", "older.pt"]
    write_replay(tmp_path, {})
    assert not list(tmp_path.iterdir())
    assert read_replay(tmp_path) == {}


@pytest.mark.parametrize("arguments", [{"weight": -1.0}, {"weight": float("nan")}, {"batch_size": 0}])
def test_impossible_numbers_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match=r"replay_(weight|batch_size): expected"):
        Replay(tmp_path, **arguments)


def gradient(replay):
    network = seeded(3)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    trainer = DistributedGanTrainer("cpu", 1, 1, federation(), network, optimizer, replay=replay)
    before = torch.cat([p.detach().flatten() for p in network.parameters()])
    trainer.run()
    return before - torch.cat([p.detach().flatten() for p in network.parameters()]), trainer.state.output[0]


def test_a_step_adds_its_gradient_times_the_weight(tmp_path):
    plain, output = gradient(None)
    assert "replay" not in output
    both, output = gradient(Replay(kept(tmp_path), weight=2.5, batch_size=4))
    network = seeded(3)
    loss = Replay(tmp_path, batch_size=4).loss(network, 1, "cpu")
    loss.backward()
    alone = torch.cat([p.grad.flatten() for p in network.parameters()])
    torch.testing.assert_close(both, plain + 2.5 * alone, rtol=1e-4, atol=1e-6)
    assert output["replay"] == pytest.approx(loss.item())


def test_without_weight_or_without_files_a_step_has_the_bits_of_one_without_it(tmp_path):
    plain, _ = gradient(None)
    assert torch.equal(plain, gradient(Replay(tmp_path / "nothing"))[0])
    assert torch.equal(plain, gradient(Replay(kept(tmp_path), weight=0.0))[0])
