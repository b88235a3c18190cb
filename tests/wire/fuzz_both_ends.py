"""
Mutated messages for the server and for a site, in a process of its own whose memory is bounded.

    python tests/federation/fuzz_both_ends.py NUMBER [SEED]

prints how many were accepted and refused, by mutation, and fails where one did anything else: an exception, memory, an
answer that is no message, an accepted message that is none, a line in a log that is not ours.
"""

import collections
import logging
import resource
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import small_sites  # noqa: E402
import torch  # noqa: E402
import wired_sites  # noqa: E402
from fuzz import Fuzzer  # noqa: E402

from bundle.server.federation import SiteUnreachable  # noqa: E402
from bundle.text import EscapingFormatter, is_text  # noqa: E402
from bundle.wire import Codec, Limits  # noqa: E402
from bundle.wire.guards import Violation, check_info, check_released, check_reply  # noqa: E402
from bundle.wire.messages import ConditionRequest, OpenRequest, Refusal, SyntheticBatch  # noqa: E402

LIMITS = {"image_shape": (1, 8, 8), "condition_shape": (2, 8, 8), "max_batch_size": 16}
CODECS = [Codec(), Codec(compression="zstd"), Codec("int8", "int8"), Codec("float16", "float16", "zstd")]
MAX_MEGABYTES = 64
"""What all of it may take beyond what is there before: as much as a thousandth of what the bombs stand for."""
ADDRESS_SPACE = 2**30


class Patch:
    """As pytest's monkeypatch, for good."""

    setattr = staticmethod(setattr)


class Log(logging.Handler):
    """Looks at every line of the log: one of a record, or an indented one of its traceback; nothing to a terminal."""

    def emit(self, record):
        first, *others = self.format(record).split("\n")
        assert first.startswith("ours ")
        assert all(line.startswith("    ") for line in others), record
        assert all(line.isprintable() for line in (first, *others))


def peak():
    """Megabytes of this process, at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def check_accepted(message, conditions):
    for value in vars(message).values():
        if isinstance(value, torch.Tensor):
            assert value.numel() <= 16 * 2 * 8 * 8, value.shape
            assert torch.isfinite(value.float()).all()
        if isinstance(value, str):
            assert is_text(value)
    if conditions is not None and message.conditions.numel():
        assert message.conditions.shape == conditions.shape


class Server:
    """The server's end: what a site answers to its three questions is mutated."""

    def __init__(self, fuzzer):
        self.fuzzer, self.answer, self.codec = fuzzer, {}, CODECS[0]
        (site,) = small_sites.sites({"A": 5}, l1_weight=0.0)
        requests = OpenRequest("A", 1), SyntheticBatch("A", 1, torch.zeros(2, 1, 8, 8)), ConditionRequest("A", 0, 4)
        self.conditions = site.open(1).conditions
        for codec in CODECS:
            for request, ask in zip(requests, (lambda r: site.open(r.step), site.step, site.conditions), strict=True):
                self.answer[codec, type(request)] = codec.encode(ask(request))
        self.batch = requests[1]
        self.federation, proxies = wired_sites.federate(
            Patch, {"A": lambda data: self.sent}, limits=Limits(**LIMITS), step_timeout=60.0
        )

        self.proxy = proxies["A"]

    def take(self):
        # what a test keeps of all that crossed is no memory of the server
        for kept in (self.proxy.received, self.proxy.answered, self.proxy.timeouts):
            kept.clear()
        codec, kind = self.fuzzer.random.choice(list(self.answer))
        self.sent = self.fuzzer.mutate(self.answer[codec, kind])
        try:
            if kind is ConditionRequest:
                request = ConditionRequest("A", 0, 4)
                message = self.federation.conditions(request)
                check_released(message, request)
                check_accepted(message, None)
                return "accepted"
            asked = self.federation.open(1) if kind is OpenRequest else self.federation.exchange({"A": self.batch})
            if not asked.messages:
                assert is_text(asked.failures["A"])
                return "not read" if "A" in asked.broken else "accepted"  # a refusal
            if kind is OpenRequest:
                check_info(asked.messages["A"], "A", 1, (2, 8, 8), 16)
            else:
                check_reply(asked.messages["A"], self.batch, self.conditions, 1e4)
            check_accepted(asked.messages["A"], self.conditions)
        except Violation as error:
            return "not read" if "not a message" in str(error) else "read and refused"
        except SiteUnreachable:
            pass  # a refusal
        return "accepted"

    def ends_well(self):
        self.sent = self.answer[CODECS[0], SyntheticBatch]
        check_reply(self.federation.exchange({"A": self.batch}).messages["A"], self.batch, self.conditions, 1e4)


class Site:
    """A site's end: what the server asks is mutated."""

    def __init__(self, fuzzer):
        self.fuzzer = fuzzer
        (self.site,) = small_sites.sites({"A": 5}, l1_weight=0.0)
        self.end = wired_sites.ends([self.site], limits=Limits(**LIMITS))["A"]

    def take(self):
        step = self.site.trained + self.fuzzer.random.choice((0, 1))
        images = torch.rand(2, 1, 8, 8) * 2 - 1
        asked = (
            OpenRequest("A", 1),
            SyntheticBatch("A", min(max(step, 1), 2**63 - 1), images),
            ConditionRequest("A", 0, 4),
        )
        message = self.fuzzer.random.choices(asked, (1, 4, 1))[0]
        answer = self.end(self.fuzzer.mutate(self.fuzzer.random.choice(CODECS).encode(message)))
        message = Codec().decode(answer, Limits(**LIMITS).answers(message) if answer else None)
        check_accepted(message, None)
        if not isinstance(message, Refusal):
            return "accepted"
        return "not read" if message.reason == "the message could not be read" else "read and refused"

    def ends_well(self):
        info = Codec().decode(self.end(Codec().encode(OpenRequest("A", 1))))
        batch = SyntheticBatch("A", info.trained + 1, torch.zeros(2, 1, 8, 8))
        reply = Codec().decode(self.end(Codec().encode(batch)))
        check_reply(reply, batch, info.conditions, 1e4)
        assert all(torch.isfinite(parameter).all() for parameter in self.site.critic.discriminator.parameters())


def main(number, seed=0):
    torch.set_num_threads(1)
    log = Log()
    log.setFormatter(EscapingFormatter("ours %(message)s"))
    logging.raiseExceptions = True
    logging.getLogger().handlers[:] = [log]
    log.handleError = lambda record: (_ for _ in ()).throw(sys.exc_info()[1])
    failed = False
    for name, side in {"server": Server, "site": Site}.items():
        fuzzer = Fuzzer(seed)
        end = side(fuzzer)
        for _ in range(20):
            end.take()
        before = peak()
        with open("/proc/self/statm", encoding="ascii") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE, resource.RLIM_INFINITY))
        counts = {kind: collections.Counter() for kind in fuzzer.kinds}
        for _ in range(number):
            outcome = end.take()
            counts[fuzzer.last][outcome] += 1
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        end.ends_well()
        grown = peak() - before
        total = sum(counts.values(), collections.Counter())
        print(f"{name}: {number} messages, {dict(total)}, {grown:.0f} MB more than before")
        for kind, found in counts.items():
            print(f"    {kind.removeprefix('of_').replace('_', ' '):28} {dict(found)}")
        failed |= grown > MAX_MEGABYTES or sum(total.values()) != number
    return failed


if __name__ == "__main__":
    code = main(*map(int, sys.argv[1:]))
    sys.stdout.flush()
    sys.exit(code)
