import itertools
import json
import tracemalloc

import numpy as np
import pytest
import torch
import zstandard
from safetensors.torch import save

from bundle.wire import Codec
from bundle.wire.codec import MAX_BYTES, MAX_HEADER_BYTES
from bundle.wire.messages import (
    MESSAGES,
    ConditionBatch,
    ConditionRequest,
    OpenRequest,
    Refusal,
    RoundReply,
    RoundRequest,
    ScoreRequest,
    Scores,
    SiteInfo,
    SiteReply,
    SyntheticBatch,
    TaughtBatch,
    TaughtWeights,
)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def masks(batch, size, seed=0):
    """Two channels of smooth blobs, uint8: a tumour inside of a head."""
    fields = torch.nn.functional.interpolate(normal(batch, 2, 6, 6, seed=seed), (size, size), mode="bicubic")
    outline = fields[:, :1] > -0.5
    return torch.cat([outline & (fields[:, 1:] > 0.8), outline], dim=1).to(torch.uint8)


EXAMPLES = [
    OpenRequest("CS", 4),
    SiteInfo(site="CS", num_samples=65, step=3, conditions=masks(2, 24), trained=2),
    SyntheticBatch("HT", 12, uniform(2, 1, 8, 8)),
    SiteReply("DU", 7, normal(2, 1, 8, 8) * 1e-30, {"l1": 0.1, "d": 1e-300}, torch.ones(1, 2, 4, 4, dtype=torch.uint8)),
    ConditionRequest("FG", 0, 64),
    ConditionBatch("FG", 64, torch.empty(0, dtype=torch.uint8)),
    ConditionBatch("FG", 0, torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)),
    TaughtBatch("FG", 3, masks(2, 8), (uniform(2, 3, 8, 8) * 2 - 1).half().float()),
    TaughtWeights("FG", 3, torch.empty(0, dtype=torch.uint8), torch.arange(256, dtype=torch.uint8)),
    Refusal("Ü", "no step 3"),
    RoundRequest("CS", 3, torch.arange(256, dtype=torch.uint8)),
    RoundReply("CS", 3, torch.arange(256, dtype=torch.uint8), 65, {"loss": 0.1}),
    ScoreRequest("CS", torch.arange(256, dtype=torch.uint8)),
    Scores("CS", "0f", {"dice": 5}, {"dice": 2.5}, {"dice": 1.5}, uniform(1, 5)),
    SyntheticBatch("HT", 0, torch.tensor(0.5)),
    SyntheticBatch("HT", 1, torch.empty(0, 1, 4, 4)),
]
PRECISIONS = ("float32", "float16", "int8")
CODECS = [
    Codec(to_sites, from_sites, compression, seed=5)
    for to_sites, from_sites, compression in itertools.product(PRECISIONS, PRECISIONS, (None, "zstd"))
]


def assert_same(message, other, floats=True):
    assert type(other) is type(message)
    for name, value in vars(message).items():
        if isinstance(value, torch.Tensor):
            assert getattr(other, name).dtype == value.dtype
            assert getattr(other, name).shape == value.shape
            if floats or not value.is_floating_point():
                assert torch.equal(getattr(other, name), value)
        else:
            assert getattr(other, name) == value


def up_to(size):
    """Any message, with tensors of so many bytes."""
    return dict.fromkeys(MESSAGES, size)


def test_there_is_an_example_of_every_message():
    assert {type(message).__name__ for message in EXAMPLES} == set(MESSAGES)


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_comes_back_exactly(message, compression):
    assert_same(message, Codec().decode(Codec(compression=compression).encode(message)))


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_any_codec_reads_any_other_and_only_floats_lose_anything(codec, message):
    data = codec.encode(message)
    decoded = Codec().decode(data)
    assert_same(message, decoded, floats=False)
    assert_same(decoded, codec.decode(data, up_to(2**12)))


def test_the_precision_is_that_of_the_direction():
    images, gradient = uniform(1, 1, 16, 16), normal(1, 1, 16, 16) * 1e-6
    batch = SyntheticBatch("A", 1, images)
    reply = SiteReply("A", 1, gradient, {}, masks(1, 16))
    for to_sites, from_sites in itertools.product(PRECISIONS, PRECISIONS):
        codec = Codec(to_sites, from_sites)
        arrived = codec.decode(codec.encode(batch)).images
        returned = codec.decode(codec.encode(reply)).image_gradient
        for precision, value, other in ((to_sites, images, arrived), (from_sites, gradient, returned)):
            largest, error = value.abs().max(), (other - value).abs().max()
            bounds = {"float32": (0, 0), "float16": (1e-7, 2**-11), "int8": (2**-11, 1 / 127)}[precision]
            assert bounds[0] <= error / largest <= bounds[1] * 1.001
        assert arrived.abs().max() <= 1


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
def test_a_message_and_a_codec_determine_the_bytes(codec):
    for message in EXAMPLES:
        assert len({codec.encode(message) for _ in range(8)}) == 1


def test_names_of_codecs():
    names = [codec.name for codec in (Codec(), Codec(compression="zstd"), Codec("int8", "int8", "zstd"))]
    assert names == ["float32", "float32+zstd", "int8/int8+zstd"]
    assert Codec("float32", "float16").name == "float32/float16"
    assert len({codec.name for codec in CODECS}) == len(CODECS)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"to_sites": "bfloat16"}, "float32, float16, int8, got 'bfloat16'"),
        ({"from_sites": None}, "float32, float16, int8, got None"),
        ({"compression": "gzip"}, "None or zstd, got 'gzip'"),
        ({"level": 0}, "1 to 22, got 0"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        Codec(**options)


def test_rounding_depends_on_seed_site_step_and_field_alone():
    images = uniform(1, 1, 16, 16)
    codec = Codec("int8", "int8")
    first = codec.encode(SyntheticBatch("A", 3, images))
    state = torch.get_rng_state()
    codec.encode(SyntheticBatch("A", 4, images))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert codec.encode(SyntheticBatch("A", 3, images)) == first
    assert Codec("int8", "float32", "zstd").decode(first).images.equal(codec.decode(first).images)

    def rounded(message, seed=0):
        decoded = codec.decode(Codec("int8", "int8", seed=seed).encode(message))
        return decoded.images if isinstance(decoded, SyntheticBatch) else decoded.image_gradient

    others = [
        rounded(SyntheticBatch("A", 3, images)),
        rounded(SyntheticBatch("A", 3, images), seed=1),
        rounded(SyntheticBatch("B", 3, images)),
        rounded(SyntheticBatch("A", 4, images)),
        rounded(SiteReply("A", 3, images, {}, masks(1, 16))),
    ]
    assert not any(torch.equal(one, two) for one, two in itertools.combinations(others, 2))


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
def test_what_is_not_finite_is_found_by_the_receiver(codec):
    gradient = normal(1, 1, 16, 16)
    gradient[0, 0, 0, 0] = float("nan")
    gradient[0, 0, 0, 1] = float("-inf")
    reply = SiteReply("A", 1, gradient, {"d": float("nan"), "g": float("inf")}, masks(1, 16))
    decoded = codec.decode(codec.encode(reply))
    assert torch.equal(decoded.image_gradient.isnan(), gradient.isnan())
    assert torch.equal(decoded.image_gradient.isinf(), gradient.isinf())
    assert np.isnan(decoded.losses["d"])
    assert decoded.losses["g"] == float("inf")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_become_float32(dtype):
    images = uniform(1, 1, 4, 6).to(dtype)
    # neither contiguous nor a leaf
    images = images.requires_grad_(True).transpose(2, 3) * 1
    decoded = Codec().decode(Codec().encode(SyntheticBatch("A", 1, images)))
    assert torch.equal(decoded.images, images.detach().float())


def test_decoded_tensors_can_be_written_to():
    for codec in CODECS:
        reply = codec.decode(codec.encode(SiteReply("A", 1, normal(1, 1, 16, 16), {}, masks(1, 16))))
        assert reply.image_gradient.add_(1).is_contiguous()
        reply.conditions.zero_()


def test_size_is_that_of_the_tensors_and_a_short_header():
    batch, conditions = SyntheticBatch("CS", 1, uniform(2, 1, 128, 128)), ConditionBatch("CS", 0, masks(2, 128))
    for precision, bits in (("float32", 32), ("float16", 16), ("int8", 8)):
        assert 0 < len(Codec(precision).encode(batch)) - batch.images.numel() * bits // 8 < 512
    assert 0 < len(Codec().encode(conditions)) - conditions.conditions.numel() // 8 < 512


def step_size(codec, images, size=128, batch=2):
    """Bytes of one step of one site, by default in the profile small, with a gradient that is noise."""
    losses = {"adversarial": 0.3, "l1": 12.5}
    reply = SiteReply("CS", 9, normal(batch, 1, size, size) * 1e-6, losses, masks(batch, size))
    return len(codec.encode(SyntheticBatch("CS", 9, images))) + len(codec.encode(reply))


def test_a_step_in_int8_takes_a_quarter():
    """Conditions are as many bits in all of them, so that a step without compression takes more than a quarter."""
    coarse = torch.nn.functional.interpolate(normal(2, 1, 16, 16), (128, 128), mode="bicubic")
    head = torch.tanh(coarse + 0.02 * normal(2, 1, 128, 128, seed=1))
    smooth = torch.where(masks(2, 128)[:, 1:] > 0, head, -1 + 1e-3 * normal(2, 1, 128, 128, seed=2).abs())
    noise = uniform(2, 1, 128, 128)
    plain, plain_zstd = Codec(), Codec(compression="zstd")
    int8, int8_zstd = Codec("int8", "int8"), Codec("int8", "int8", "zstd")
    # images of noise are the worst that can be compressed: float32 gains by its exponents, int8 nothing
    assert step_size(int8_zstd, noise) <= 0.26 * step_size(plain, noise)
    assert 0.26 < step_size(int8_zstd, noise) / step_size(plain_zstd, noise) <= 0.27
    assert step_size(int8_zstd, smooth) <= 0.26 * step_size(plain_zstd, smooth)
    assert 0.26 < step_size(int8, noise) / step_size(plain, noise) <= 0.28
    # bits took the place of a byte a voxel
    unpacked = step_size(plain, noise) + masks(2, 128).numel() * 7 // 8
    assert step_size(int8, noise) <= 0.26 * unpacked


def test_compression_is_kept_only_where_it_pays_and_never_lost_on_the_receiver():
    batch = SyntheticBatch("A", 1, torch.zeros(1, 1, 64, 64))
    assert len(Codec(compression="zstd").encode(batch)) < 400 < 16384 < len(Codec().encode(batch))
    noise = ConditionBatch("A", 0, torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8))
    assert len(Codec(compression="zstd").encode(noise)) <= len(Codec().encode(noise))


def test_only_messages_cross():
    class Sneaked(SyntheticBatch):
        """Has the fields of a message, and is none."""

    for other in ({"images": torch.zeros(1)}, torch.zeros(1), Sneaked("A", 1, torch.zeros(1))):
        with pytest.raises(TypeError, match="only messages cross"):
            Codec().encode(other)
    with pytest.raises(TypeError, match=r"SyntheticBatch.images: expected a tensor of floats or of uint8, got .*int64"):
        Codec().encode(SyntheticBatch("A", 1, torch.zeros(1, dtype=torch.int64)))
    losses = {f"{name:0300}": 0.0 for name in range(MAX_HEADER_BYTES // 300)}
    with pytest.raises(ValueError, match=f"expected at most {MAX_HEADER_BYTES} bytes beside the tensors"):
        Codec().encode(SiteReply("A", 1, torch.zeros(1), losses, torch.zeros(1, dtype=torch.uint8)))


def written(tensors, fields, **encodings):
    """A safetensors file with this header, whatever it claims."""
    if encodings:
        fields = fields | {"encodings": encodings}
    return save(tensors, metadata={"message": fields if isinstance(fields, str) else json.dumps(fields)})


SYNTHETIC = {"kind": "SyntheticBatch", "site": "A", "step": 1}
REPLY = {"kind": "SiteReply", "site": "A", "step": 1}
IMAGES = {"images": torch.zeros(2)}
LONG = {"conditions": torch.zeros(8, dtype=torch.uint8)}


def forged():
    whole = Codec().encode(EXAMPLES[2])
    header = int.from_bytes(whole[:8], "little")

    def replaced(old, new):
        text = whole[8 : 8 + header].replace(old, new)
        assert text != whole[8 : 8 + header]
        return len(text).to_bytes(8, "little") + text + whole[8 + header :]

    deep = "[" * 20000 + "]" * 20000
    return {
        "nothing": b"",
        "few bytes": b"\x01\x02",
        "noise": b"\x80\x04\x95" + bytes(200),
        "half a message": whole[: len(whole) // 2],
        "a byte too many": whole + b"\0",
        "no header": save({"images": torch.zeros(1)}),
        "unknown type": written(IMAGES, SYNTHETIC | {"kind": "Model"}),
        "a type that is none": written(IMAGES, SYNTHETIC | {"kind": ["SyntheticBatch"]}),
        "field missing": written(IMAGES, {"kind": "SyntheticBatch", "site": "A"}),
        "field too many": written(IMAGES, SYNTHETIC | {"path": "x"}),
        "field twice": written(IMAGES, SYNTHETIC | {"images": "x"}),
        "tensor for a number": written({"step": torch.zeros(1)}, {"kind": "OpenRequest", "site": "A"}),
        "text for a number": written(IMAGES, SYNTHETIC | {"step": "1"}),
        "number too long": written(IMAGES, SYNTHETIC | {"step": 2**63}),
        "true for a number": written(IMAGES, SYNTHETIC | {"step": True}),
        "number for text": written(IMAGES, SYNTHETIC | {"site": 1}),
        "number for a tensor": written({}, SYNTHETIC | {"images": 1}),
        "text for a loss": written(
            {"image_gradient": torch.zeros(2), **LONG},
            REPLY | {"losses": {"d": "1"}},
        ),
        "list for losses": written({"image_gradient": torch.zeros(2), **LONG}, REPLY | {"losses": [1]}),
        "lines for a log": written(IMAGES, SYNTHETIC, **{"x\n" * 10000: {"int8": 1.0}}),
        "a list": written(IMAGES, "[]"),
        "nested": written(IMAGES, deep),
        "nested encodings": written(IMAGES, json.dumps(SYNTHETIC)[:-1] + f', "encodings": {deep}}}'),
        "encoding of nothing": written(IMAGES, SYNTHETIC, other={"int8": 1.0}),
        "encodings are a list": written(IMAGES, SYNTHETIC | {"encodings": ["images"]}),
        "wrong encoding": written(IMAGES, SYNTHETIC, images={"int8": 1.0}),
        "shape of the bits": written(
            LONG, {"kind": "ConditionBatch", "site": "A", "start": 0}, conditions={"bits": [65]}
        ),
        "another dtype": written({"images": torch.zeros(2, dtype=torch.int64)}, SYNTHETIC),
        "a wide dtype": written({"images": torch.zeros(2, dtype=torch.float64)}, SYNTHETIC),
        "a lying shape": replaced(b"[2,1,8,8]", b"[2,1,8,9]"),
        "an endless shape": replaced(b"[2,1,8,8]", b"[4294967296,4294967296,4294967296]"),
        "an endless shape of nothing": replaced(b"[2,1,8,8]", b"[0,4611686018427387904,4611686018427387904]"),
        "lying offsets": replaced(b"[0,512]", b"[8,520]"),
        "an endless header": (2**40).to_bytes(8, "little") + whole[8:],
        "a long header": written(IMAGES, SYNTHETIC | {"site": "A" * 2**17}),
        "another dtype's name": replaced(b"F32", b"F4"),
    }


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", forged())
def test_what_is_no_message_is_refused(name, compressed):
    data = forged()[name]
    with pytest.raises(ValueError, match="not a message between server and site") as caught:
        Codec().decode(zstandard.compress(data) if compressed else data)
    # its text ends in logs: on one line, and not a long one
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_what_was_damaged_is_refused_or_a_message():
    """Any bytes: nothing but ValueError. (Whether a message was altered is for the connection to say.)"""
    rng = np.random.default_rng(0)
    for codec in CODECS[::3] + CODECS[1::6]:
        for message in EXAMPLES:
            whole = codec.encode(message)
            damaged = [rng.bytes(int(rng.integers(0, 300))) for _ in range(10)]
            damaged += [whole[:4] + rng.bytes(40), whole[:16] + rng.bytes(len(whole)), whole + rng.bytes(3)]
            damaged += [whole[: int(rng.integers(len(whole)))] for _ in range(20)]
            for _ in range(60):
                other = bytearray(whole)
                for place in rng.integers(0, min(len(whole), 400), int(rng.integers(1, 4))):
                    other[place] ^= 1 << int(rng.integers(8))
                damaged.append(bytes(other))
            for data in damaged:
                try:
                    decoded = codec.decode(data)
                except ValueError:
                    continue
                tensors = [value for value in vars(decoded).values() if isinstance(value, torch.Tensor)]
                assert MESSAGES[type(decoded).__name__] is type(decoded)
                assert all(tensor.dtype in (torch.float32, torch.uint8) for tensor in tensors)


@pytest.mark.parametrize("codec", CODECS[::4] + CODECS[1::4], ids=lambda c: c.name)
def test_the_limit_is_of_bytes_received_decompressed_and_decoded(codec):
    batch = SyntheticBatch("A", 1, uniform(1, 1, 160, 160))
    data = codec.encode(batch)
    size = batch.images.numel() * 4
    assert codec.decode(data, up_to(size)).images.shape == batch.images.shape
    with pytest.raises(ValueError, match=f"tensors of {size} bytes, expected at most {size - 1}"):
        codec.decode(data, up_to(size - 1))
    most = len(data) - MAX_HEADER_BYTES - 1
    if most > 0:  # some take less than any header may
        with pytest.raises(ValueError, match=f"at most {len(data) - 1} bytes, got {len(data)}"):
            codec.decode(data, up_to(most))


def claiming(size, frame):
    """A Zstandard frame that says another size of its content (RFC 8878, 3.1.1.1)."""
    place = 5 if frame[4] & 0x20 else 6
    assert frame[4] >> 6 == 2  # the size takes four bytes
    return frame[:place] + size.to_bytes(4, "little") + frame[place + 4 :]


def bombs():
    zeros, fewer = zstandard.compress(bytes(2**24)), zstandard.compress(bytes(2**17))
    assert zstandard.frame_content_size(claiming(2**12, zeros)) == 2**12
    # 2**23 bytes of a message that would be 2**26, in a few hundred
    mask = ConditionBatch("A", 0, torch.zeros(1, 1, 2**13, 2**13, dtype=torch.uint8))
    return {
        "zeros": zeros,
        "a frame that says less": claiming(2**12, zeros),
        "a frame that says 4 GB": claiming(2**32 - 1, fewer),
        "a frame that says more": claiming(2**18, fewer),
        "a frame that does not say": zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**24)),
        "a frame of nothing": zstandard.compress(b""),
        "half a frame": zeros[: len(zeros) // 2],
        "two frames": zstandard.compress(Codec().encode(EXAMPLES[0])) + zeros,
        "only a magic number": zeros[:4],
        "a frame in a frame": zstandard.compress(zeros),
        "many bits": Codec(compression="zstd").encode(mask),
    }


@pytest.mark.parametrize("name", bombs())
def test_bombs_are_refused_at_no_cost(name):
    data = bombs()[name]
    assert len(data) < 2**13
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            Codec().decode(data, up_to(2**18))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_without_a_limit_there_is_one_for_what_was_compressed():
    with pytest.raises(ValueError, match=f"expected 1 to {MAX_BYTES + MAX_HEADER_BYTES}"):
        Codec().decode(claiming(MAX_BYTES + MAX_HEADER_BYTES + 1, zstandard.compress(bytes(2**20))))


def test_what_is_larger_than_the_limit_is_not_compressed_and_arrives(monkeypatch):
    monkeypatch.setattr("bundle.wire.codec.MAX_BYTES", 2**14)
    codec = Codec("int8", "int8", "zstd")
    for size in (60, 61, 62, 63, 64, 65, 128):
        for message in (SyntheticBatch("A", 1, torch.zeros(1, 1, size, size)), ConditionBatch("A", 0, masks(2, size))):
            assert_same(message, codec.decode(codec.encode(message)))
    assert len(codec.encode(SyntheticBatch("A", 1, torch.zeros(1, 1, 128, 128)))) > 128 * 128
