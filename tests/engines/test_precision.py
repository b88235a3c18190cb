"""Whether bfloat16 is taken where a config leaves it to the machine."""

import pytest
import torch

from bundle.engines import AutocastInferer, precision
from bundle.engines.precision import takes_bfloat16


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Have this machine's CPU have these flags."""

    def have(*flags):
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\nflags\t\t: fpu {' '.join(flags)}\nbugs\t\t:\n", encoding="utf-8")
        monkeypatch.setattr(precision, "_CPU", path)
        precision._pays.cache_clear()

    yield have
    precision._pays.cache_clear()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["avx512f", "amx_bf16"], "amp auto: bfloat16 on this cpu, which has AMX"),
        (["avx512_bf16"], "amp auto: bfloat16 on this cpu, which has AVX-512 bfloat16"),
        (["avx512f"], "amp auto: float32 on this cpu, which has neither AMX nor AVX-512 bfloat16"),
    ],
)
def test_a_cpu_is_known_by_its_flags_and_the_log_says_what_was_taken(cpu, caplog, flags, said):
    caplog.set_level("INFO", "bundle")
    cpu(*flags)
    seen = []

    def network(x):
        seen.append((x @ x).dtype)
        return x

    for _ in range(2):
        assert AutocastInferer(amp="auto")(torch.ones(2, 2), network).dtype == torch.float32
    assert seen == [torch.bfloat16 if "bfloat16 on" in said else torch.float32] * 2
    assert [record.message for record in caplog.records] == [said]


def test_a_system_that_does_not_tell_and_devices_of_which_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "_CPU", tmp_path / "none")
    precision._pays.cache_clear()
    try:
        assert not takes_bfloat16("auto", "cpu")
        assert not takes_bfloat16("auto", "mps")
    finally:
        precision._pays.cache_clear()


def test_who_says_true_or_false_is_not_asked_for_flags(cpu):
    cpu()
    assert takes_bfloat16(True, "cpu")
    cpu("amx_bf16")
    assert not takes_bfloat16(False, "cpu")


@pytest.mark.parametrize("amp", ["yes", 1, None])
def test_other_values_are_refused_when_the_inferer_is_made(amp):
    with pytest.raises(ValueError, match="amp: expected true, false or 'auto'"):
        AutocastInferer(amp=amp)
