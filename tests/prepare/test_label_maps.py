"""NumPy and MATLAB files: bombs are refused before they are unpacked, stacks and other contents in words."""

import contextlib
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from bundle.data.errors import DataError
from bundle.prepare import label_maps
from bundle.prepare.label_maps import MAP_READERS


def fails(path, *words):
    with pytest.raises(DataError) as caught:
        MAP_READERS[path.suffix](path)
    for word in (path, *words):
        assert str(word) in str(caught.value)


def element(kind, data):
    return np.array([kind, len(data)], "<u4").tobytes() + data + bytes(-len(data) % 8)


def mat_bomb(path, size):
    """A variable of 10×10 doubles by its header, whose numbers unpack to `size` bytes."""
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    flags = element(6, np.array([6, 0], "<u4").tobytes())
    matrix = flags + element(5, np.array([10, 10], "<i4").tobytes()) + element(1, b"inst_map")
    matrix += np.array([9, size], "<u4").tobytes()
    pack = zlib.compressobj()
    packed = pack.compress(np.array([14, len(matrix) + size], "<u4").tobytes() + matrix)
    block = bytes(2**20)
    for _ in range(size // len(block)):
        packed += pack.compress(block)
    packed += pack.flush()
    path.write_bytes(head + np.array([15, len(packed)], "<u4").tobytes() + packed)


@pytest.fixture
def bound(monkeypatch):
    """Four million bytes, so that tests need not pack what a real bomb does; and the peak of memory is looked at."""
    monkeypatch.setattr(label_maps, "MAX_BYTES", 4_000_000)
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000


def test_mat_bombs(tmp_path, bound):
    path = tmp_path / "a.mat"
    mat_bomb(path, 64 * 2**20)
    assert path.stat().st_size < 100_000
    fails(path, "unpacks to more than 4,000,000 bytes")


def test_npz_bombs(tmp_path, bound, monkeypatch):
    path = tmp_path / "a.npz"
    with monkeypatch.context() as patch:
        patch.setattr(label_maps, "MAX_BYTES", 2**40)
        np.savez_compressed(path, np.zeros((1500, 1000), np.int16))
    assert path.stat().st_size < 10_000
    assert MAP_READERS[".npz"](path).shape == (1500, 1000)
    np.savez_compressed(path, np.zeros((1500, 1500), np.int16))
    fails(path, "unpacks to 4,500,128 bytes, expected at most 4,000,000")


def test_npy_headers_that_promise_more_than_there_is(tmp_path, bound):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((10, 10), np.int64))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"(10, 10), }", b"(10**9, 9)}"[:11]))
    fails(path, "unreadable or truncated")
    path.write_bytes(whole.replace(b"(10, 10), }  ", b"(10000, 99)} "))
    fails(path, "unreadable or truncated")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_damaged_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    values = np.random.default_rng(0).integers(0, 9, (30, 40))
    if suffix == ".mat":
        scipy.io.savemat(path, {"inst_map": values}, do_compression=True)
    else:
        (np.save if suffix == ".npy" else np.savez)(path, values)
    np.testing.assert_array_equal(MAP_READERS[suffix](path), values)
    whole = path.read_bytes()
    for kept in (0, 4, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        fails(path, "unreadable")
    path.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    fails(path, "MATLAB 7.3 (HDF5); save it with -v7" if suffix == ".mat" else "unreadable")


@pytest.mark.parametrize("row", [16, -1, 2**30])
def test_sparse_matrices_whose_indices_lie_outside(tmp_path, row):
    path = tmp_path / "a.mat"
    matrix = scipy.sparse.csc_matrix(np.eye(16))
    matrix.indices[3] = row
    scipy.io.savemat(path, {"inst_map": matrix})
    fails(path, "unreadable")


def test_contents_that_are_no_map(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((7, 16, 16, 6)))
    fails(path, "holds a stack of 7 tiles, as PanNuke's folds do", "(16, 16, 6)")
    np.save(path, np.full((16, 16, 6), 3))
    fails(path, "expected background, 0 and 1, in the last channel")
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros((4, 4)), b=np.zeros((4, 4)))
    fails(path, "holds the arrays a, b, expected inst_map or a single one")
    np.savez(path, np.array([{}], dtype=object))
    fails(path, "unreadable")
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"inst_map": np.zeros((2, 2, 2)), "text": "abc", "cells": np.array([1, "a"], object)})
    fails(path, "holds the 2-D variables (none)")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_flipped_bytes_are_read_or_refused(tmp_path, suffix):
    """SciPy's reader crashes on types of elements that it does not know, on complex flags and on indices outside."""
    path, rng = tmp_path / f"a{suffix}", np.random.default_rng(0)
    if suffix == ".mat":
        matrix = scipy.sparse.csc_matrix(np.eye(16))
        scipy.io.savemat(path, {"inst_map": matrix, "other": np.eye(8), "text": "abc"})
    else:
        (np.save if suffix == ".npy" else np.savez)(path, np.eye(16, dtype=np.uint16))
    whole = path.read_bytes()
    for _ in range(300):
        content, place = bytearray(whole), int(rng.integers(len(whole)))
        content[place : place + 4] = rng.choice([bytes(4), b"\xff" * 4, rng.bytes(4)])
        path.write_bytes(content[: len(whole)])
        with contextlib.suppress(DataError):
            assert isinstance(MAP_READERS[suffix](path), np.ndarray)
