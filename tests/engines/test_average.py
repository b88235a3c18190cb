"""The average of a network's weights over a training."""

import pytest
import torch
from ignite.engine import Engine

from bundle.engines import WeightsAverage


def network(value=0.0):
    made = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(made.weight, value)
    return made


def train(trained, average, decay, steps, done=0):
    """A training whose weight is the number of the step."""

    def step(engine, batch):
        with torch.no_grad():
            trained.weight.fill_(engine.state.iteration)

    engine = Engine(step)
    WeightsAverage(trained, average, decay).attach(engine)
    engine.load_state_dict({"epoch_length": 1, "max_epochs": done + steps, "iteration": done})
    engine.run([0] * (done + steps))
    return average.weight.item()


def by_hand(decay, steps):
    value = 0.0
    for step in range(1, steps + 1):
        share = min(decay, (1 + step) / (10 + step))
        value = share * value + (1 - share) * step
    return value


@pytest.mark.parametrize("decay", [0.1, 0.9, 0.999])
def test_the_average_is_that_of_the_formula(decay):
    assert train(network(), network(), decay, 20) == pytest.approx(by_hand(decay, 20), rel=1e-5)


def test_a_training_that_resumes_goes_on_with_the_same_average():
    trained, average = network(), network()
    train(trained, average, 0.9, 7)
    assert train(trained, average, 0.9, 13, done=7) == pytest.approx(by_hand(0.9, 20), rel=1e-5)


@pytest.mark.parametrize("decay", [-0.1, 0.0, 1.0])
def test_a_decay_out_of_range(decay):
    with pytest.raises(ValueError, match="decay: expected a number above 0 and below 1"):
        WeightsAverage(network(), network(), decay)
