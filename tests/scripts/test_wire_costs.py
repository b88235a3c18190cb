import pytest
import torch

from bundle.wire import Codec
from scripts.wire_costs import (
    TRAININGS,
    Step,
    Training,
    break_even,
    configs,
    human,
    main,
    model_size,
    noise_batch,
    seconds,
    step_size,
    table,
    with_real_conditions,
)

TINY = Training("Tiny", "brats", "demo", sites=3, epoch_steps=10, epochs=2)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (65780, "65.8 kB"), (99960, "100 kB"), (9.996e8, "1.00 GB")],
)
def test_sizes_have_three_digits(size, text):
    assert human(size) == text


def test_sizes_are_those_of_tensors_and_weights():
    config = configs(TINY)
    images, conditions = noise_batch(config)
    assert images.shape == (2, 1, 64, 64)
    assert conditions.shape == (2, 2, 64, 64)
    # the label lies inside of the outline, and neither is empty
    label, outline = conditions.unbind(1)
    assert 0 < label.sum() < outline.sum() < outline.numel()
    assert (label <= outline).all()
    step = step_size(Codec(), [(images, conditions)])
    assert step.to_site == pytest.approx(4 * images.numel(), abs=512)
    assert step.from_site == pytest.approx(4 * images.numel() + conditions.numel() / 8, abs=512)
    networks = [config.get_parsed_content(key)() for key in ("generator_def", "discriminator_def")]
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    assert model_size(config) == pytest.approx(4 * parameters, rel=0.05)


def test_the_published_sizes():
    assert [noise_batch(configs(training))[0].shape for training in TRAININGS] == [
        (1, 1, 256, 256),
        (1, 3, 256, 256),
        (2, 1, 128, 128),
    ]
    assert all(noise_batch(configs(training))[1].shape[1] == 2 for training in TRAININGS)
    assert TRAININGS[0].epoch_steps == 1135


def test_at_the_break_even_both_are_as_many_bytes():
    model, step = 56_000_000, Step(262_000, 279_000)
    steps = break_even(model, step.both)
    for sites in (1, 7):
        assert sites * steps * step.both == pytest.approx(sites * 2 * model)
    assert seconds(12_500_000, 4, 100) == 4


def test_table_of_known_sizes():
    rows = table(TINY, 10_000, {"float32": Step(100, 150), "int8": Step(25, 100)}, megabits=0.001).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    # 3 sites × 20 steps × 250 B; 2 × 10 kB / 250 B; 8 × 250 B × sites / 1000 bits a second
    assert cells[0] == ["float32", "100 B", "150 B", "1.000", "15.0 kB", "80", "8.00", "20.00", "100.00"]
    assert cells[1][3:6] == ["0.500", "7.50 kB", "160"]
    # 3 sites × 2 rounds × 20 kB
    assert cells[2][:6] == ["a round of averaging", "10.0 kB", "10.0 kB", "", "120 kB", ""]


def test_real_conditions_take_the_place_of_random_ones(phantom_dir):
    config = configs(TINY)
    batches = list(with_real_conditions(config, str(phantom_dir)))
    assert len(batches) == 2
    for images, conditions in batches:
        assert torch.equal(images, noise_batch(config)[0])
        assert conditions.dtype == torch.uint8
        assert conditions.shape == (2, 2, 64, 64)
    assert not torch.equal(batches[0][1], batches[1][1])
    # uncompressed, a bit is a bit
    assert step_size(Codec(), batches) == step_size(Codec(), [noise_batch(config)])


def test_data_that_cannot_be_used(tmp_path, capsys):
    assert main(["--task", "brats", "--dataset_dir", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--dataset_dir", str(tmp_path)])
