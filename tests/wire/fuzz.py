"""
Messages as somebody would make them who wants the other end to fail: :func:`mutate`, seeded.

Each mutation takes the bytes of a message, and returns others. They know how a message is built, for what breaks at the
first byte tests nothing behind it.
"""

import json
import random
import struct

import zstandard

NUMBERS = (0, -1, 1, 7, 2**31, 2**62, 2**63 - 1, 2**63, 10**400, -(2**63), 0.5, 1e308, float("nan"), float("inf"))
TEXTS = (
    "",
    "B",
    "a" * 301,
    "a" * 60000,
    "A\nINFO forged",
    "\x1b[2J",
    "\u202etxt.exe",
    "A\0",
    "\ud800",
    "../../x",
    "é" * 300,
)
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "C64", "X")
SHAPES = ([2**31, 2**31], [2**62], [0, 2**62], [-1], [1] * 500, [], [2, 2, 4096, 4096], [1.5], ["2"], None, [[2]])
ZEROS = [zstandard.compress(bytes(size)) for size in (2**16, 2**22, 2**26)]
STREAMED = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**22))


def parts(data):
    """Header and tensors of a message, decompressed: the header as it is read, with ``message`` read too."""
    if data[:4] == zstandard.FRAME_HEADER:
        data = zstandard.ZstdDecompressor().decompress(data)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["message"]), data[8 + length :]


def joined(header, message, tensors):
    text = message if isinstance(message, str) else json.dumps(message)
    header = json.dumps(header | {"__metadata__": {"message": text}}).encode()
    return len(header).to_bytes(8, "little") + header + tensors


class Fuzzer:
    """
    Args:
        seed: of all that is drawn.

    ``last`` names the mutation made last.
    """

    def __init__(self, seed=0):
        self.random = random.Random(seed)
        self.kinds = [name for name in dir(self) if name.startswith("of_")]
        self.seen = []
        self.last = ""

    def mutate(self, data):
        """Other bytes of a message's, by a mutation that is drawn."""
        self.seen = [*self.seen[-15:], data]
        self.last = self.random.choice(self.kinds)
        return getattr(self, self.last)(data)

    def of_flipped_bits(self, data):
        data = bytearray(data)
        for _ in range(self.random.choice((1, 1, 2, 8, 64))):
            # half of them where the header is
            data[self.random.randrange(min(len(data), self.random.choice((400, len(data)))))] ^= (
                1 << self.random.randrange(8)
            )
        return bytes(data)

    def of_truncation(self, data):
        return data[: self.random.randrange(len(data))] + self.random.choice((b"", b"\0", bytes(1000)))

    def of_noise(self, data):
        noise = self.random.randbytes(self.random.choice((0, 1, 8, 100, 5000)))
        return self.random.choice((noise, zstandard.FRAME_HEADER + noise, zstandard.compress(noise), data + noise))

    def of_spliced_messages(self, data):
        other = self.random.choice(self.seen)
        if self.random.random() < 0.5:
            return data[: self.random.randrange(len(data))] + other[self.random.randrange(len(other)) :]
        return joined(*parts(data)[:2], parts(other)[2])

    def of_fields_of_another(self, data):
        header, message, tensors = parts(data)
        other = parts(self.random.choice(self.seen))[1]
        for name in self.random.sample(sorted(other), min(2, len(other))):
            message[name] = other[name]
        return joined(header, message, tensors)

    def of_declared_shapes(self, data):
        return self._of_tensors(data, "shape", lambda old: self.random.choice(SHAPES))

    def of_dtypes(self, data):
        return self._of_tensors(data, "dtype", lambda old: self.random.choice(DTYPES))

    def of_offsets(self, data):
        return self._of_tensors(data, "data_offsets", lambda old: [self.random.choice((*NUMBERS, n)) for n in old])

    def of_encodings(self, data):
        header, message, tensors = parts(data)
        names = [name for name in header if name != "__metadata__"] or ["images"]
        number = self.random.choice(NUMBERS)
        encoding = self.random.choice(
            ({"bits": self.random.choice(SHAPES)}, {"int8": number}, {"float16": number}, {"bits": [number]}, [], None)
        )
        return joined(header, message | {"encodings": {self.random.choice(names): encoding}}, tensors)

    def of_numbers(self, data):
        return self._of_values(data, (int, float), NUMBERS)

    def of_strings(self, data):
        return self._of_values(data, str, TEXTS)

    def of_types(self, data):
        return self._of_values(data, object, (None, True, [], {}, [[]], {"a": {"b": 1}}, "1", 1, 1.0, ["A"]))

    def of_names(self, data):
        header, message, tensors = parts(data)
        name = self.random.choice(sorted(message))
        value = message.pop(name)
        if self.random.random() < 0.5:
            message[self.random.choice((*TEXTS, "path", "images", "conditions"))] = value
        return joined(header, message, tensors)

    def of_losses(self, data):
        header, message, tensors = parts(data)
        value, name = self.random.choice(NUMBERS), self.random.choice(TEXTS)
        losses = self.random.choice(({name: value}, {"adversarial": value}, {f"l{i}": value for i in range(2000)}))
        return joined(header, message | {"losses": losses}, tensors)

    def of_nesting(self, data):
        header, message, tensors = parts(data)
        depth = self.random.choice((10, 1000, 20000))
        deep = self.random.choice(("[" * depth + "]" * depth, '{"a":' * (depth // 3) + "1" + "}" * (depth // 3)))
        if self.random.random() < 0.3:
            return joined(header, deep, tensors)
        text = json.dumps(message)[:-1] + f', "{self.random.choice((*message, "encodings"))}": {deep}}}'
        return joined(header, text, tensors)

    def of_names_that_stand_twice(self, data):
        header, message, tensors = parts(data)
        name = self.random.choice(sorted(message))
        twice = json.dumps(message)[:-1] + f", {json.dumps(name)}: {json.dumps(self.random.choice(TEXTS))}}}"
        if self.random.random() < 0.5:
            return joined(header, twice, tensors)
        header = json.dumps(header)
        header = (header[:-1] + ", " + header[1:]).encode()
        return len(header).to_bytes(8, "little") + header + tensors

    def of_numbers_that_are_none(self, data):
        """NaN, infinities and huge numbers among those of a tensor."""
        header, message, tensors = parts(data)
        tensors = bytearray(tensors)
        for _ in range(self.random.choice((1, 3)) if len(tensors) >= 4 else 0):
            value = struct.pack("<f", self.random.choice((float("nan"), float("inf"), float("-inf"), 3e38, -1e30)))
            place = self.random.randrange(len(tensors) // 4) * 4
            tensors[place : place + 4] = value
        return joined(header, message, bytes(tensors))

    def of_many_tensors(self, data):
        header, message, tensors = parts(data)
        many = {
            f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(self.random.choice((1, 900)))
        }
        return joined(many | header, message, tensors)

    def of_bombs(self, data):
        """Few bytes that stand for many: a frame of zeros, one that lies of its size, a message of large masks."""
        zeros = self.random.choice(ZEROS)
        side = self.random.choice((64, 512, 2048))
        conditions = {"dtype": "U8", "shape": [2 * side * side // 8], "data_offsets": [0, 2 * side * side // 8]}
        message = parts(data)[1]
        message["encodings"] = {"conditions": {"bits": [1, 2, side, side]}}
        masks = joined({"conditions": conditions}, message, bytes(2 * side * side // 8))
        lying = bytearray(zeros)
        lying[5:9] = struct.pack("<I", self.random.choice((1, 2**12, 2**20, 2**32 - 1)))
        return self.random.choice((zeros, bytes(lying), STREAMED, zstandard.compress(masks), zstandard.compress(zeros)))

    def of_compression(self, data):
        """What is said well may be compressed well; then it is damaged."""
        frame = zstandard.compress(data) if data[:4] != zstandard.FRAME_HEADER else data
        return self.of_flipped_bits(frame) if self.random.random() < 0.5 else frame + frame

    def _of_tensors(self, data, key, change):
        header, message, tensors = parts(data)
        names = [name for name in header if name != "__metadata__"]
        if names:
            about = header[self.random.choice(names)]
            about[key] = change(about[key])
        return joined(header, message, tensors)

    def _of_values(self, data, types, values):
        header, message, tensors = parts(data)
        names = [name for name, value in message.items() if isinstance(value, types)]
        message[self.random.choice(names or sorted(message))] = self.random.choice(values)
        return joined(header, message, tensors)


mutate = Fuzzer().mutate
