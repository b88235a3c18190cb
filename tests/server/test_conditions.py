"""Files of conditions: what is read of them, and what is refused before it is unpacked."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from bundle.server import read_conditions, write_conditions


def test_round_trip_in_the_order_of_numbers(tmp_path):
    conditions = {"A": [np.full((2, 4, 4), n % 2, np.uint8) for n in range(12)], "B/b": [np.ones((1, 2, 2), np.uint8)]}
    write_conditions(tmp_path / "c.npz", conditions)
    read = read_conditions(tmp_path / "c.npz")
    assert list(read) == ["A", "B/b"]
    for site, expected in conditions.items():
        np.testing.assert_array_equal(np.stack(read[site]), np.stack(expected))


def member(shape, dtype="|u1", data=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


def pack(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name.replace('_', '/')}.npy", content)


ZEROS = bytes(2**26 + 1)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"A_0": member((2, 2), data=bytes(4))}, r"A/0 is uint8 \(2, 2\)"),
        ({"A_0": member((1, 2, 2), "<f4", bytes(16))}, "A/0 is float32"),
        ({"A_0": member((1, 0, 2))}, "A/0 is uint8"),
        ({"A_0": member((1, 2, 2), data=b"\2" * 4)}, "values up to 2"),
        ({"A_0": member((10**6, 10**6, 1), data=bytes(4))}, r"A/0 is uint8 \(1000000"),
        ({"A_0": member((2**26 + 1, 1, 1), data=ZEROS)}, r"A/0 is uint8 \(67108865"),
        ({"A_0": member((2, 2**23, 1), "<f8", ZEROS)}, "A/0 is float64"),
        ({f"A_{n}": member((2**26, 1, 1)) for n in range(65)}, "more than 4294967296 bytes when unpacked"),
        ({"A_x": member((1, 2, 2), data=bytes(4))}, "invalid literal"),
        ({"A_0": b"no array"}, "magic"),
        ({"A_0": member((1, 2, 2), data=bytes(2))}, r"c\.npz"),
    ],
    ids=range(11),
)
def test_refused_before_it_is_unpacked(tmp_path, members, text):
    pack(tmp_path / "c.npz", **members)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=text):
            read_conditions(tmp_path / "c.npz")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_no_file_and_no_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match="no conditions"):
        read_conditions(tmp_path / "c.npz")
    for content in (b"", b"PK\3\4", b"nothing"):
        (tmp_path / "c.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"c\.npz: expected NumPy's \.npz"):
            read_conditions(tmp_path / "c.npz")
