from collections import Counter

import pytest
import torch

from bundle.seeding import derive_seed, draw, drawn_indices, forked_rng, seeded


def test_a_seed_depends_on_every_part_of_its_path_and_on_nothing_else():
    paths = [
        (0, "CS", 1),
        (1, "CS", 1),
        (0, "DU", 1),
        (0, "CS", 2),
        (0, "CS"),
        (0, "C", "S", 1),
        (0, "CS1"),
        (0, 1, "CS"),
    ]
    seeds = [derive_seed(*path) for path in paths]
    assert len(set(seeds)) == len(paths)
    torch.manual_seed(1)
    assert [derive_seed(*path) for path in paths] == seeds
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_every_lap_takes_every_sample_once_in_an_order_of_its_own():
    length = 7
    laps = [[draw(3, "CS", lap * length + i, length).index for i in range(length)] for lap in range(4)]
    assert all(sorted(lap) == list(range(length)) for lap in laps)
    assert len({tuple(lap) for lap in laps}) == 4
    assert laps[0] != [draw(3, "DU", i, length).index for i in range(length)]


def test_draws_need_no_history():
    forwards = [draw(0, "HT", position, 5) for position in range(23)]
    backwards = [draw(0, "HT", position, 5) for position in reversed(range(23))]
    assert forwards == backwards[::-1]
    # the same sample drawn twice is transformed differently
    assert max(Counter(d.seed for d in forwards).values()) == 1


def test_forked_rng_leaves_the_state_as_it_was():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with forked_rng(1):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(10)
    with forked_rng(1):
        assert torch.equal(torch.rand(3), first)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), first), "the stream is that of torch.manual_seed"


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is in use")
def test_forking_keeps_nothing_for_a_gpu_that_is_not_used():
    """A training forks twice a step and site; torch.manual_seed keeps every call of it, with its stack."""
    before = len(torch.cuda._queued_calls)
    for seed in range(5):
        with forked_rng(seed):
            torch.rand(1)
    assert len(torch.cuda._queued_calls) == before


def test_weights_depend_on_seed_and_role_and_not_on_what_was_drawn_before():
    def weights(*arguments):
        torch.rand(5)
        return seeded(lambda: torch.nn.Linear(3, 3), *arguments).weight

    assert torch.equal(weights(0, "generator"), weights(0, "generator"))
    others = [weights(1, "generator"), weights(0, "segmenter"), weights(0, "discriminator", "A")]
    assert not any(torch.equal(weights(0, "generator"), other) for other in others)
    with pytest.raises(ValueError, match="definition of the generator needs `_mode_: callable`"):
        seeded(torch.nn.Linear(3, 3), 0, "generator")


@pytest.mark.parametrize(("first", "count"), [(0, 3), (5, 2), (4, 11), (13, 30), (7, 7)])
def test_many_draws_at_once_are_those_one_by_one(first, count):
    assert drawn_indices(3, "CS", first, count, 7).tolist() == [draw(3, "CS", first + i, 7).index for i in range(count)]
