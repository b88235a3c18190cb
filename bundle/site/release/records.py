"""What a gate has let out: the ledger, opened when there is something to write, and what its entries add up to."""

from __future__ import annotations

import atexit
import sys
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from weakref import WeakSet

from bundle.seeding import derive_seed
from bundle.site.release.budget import make_budget
from bundle.site.release.chain import LedgerError
from bundle.site.release.digests import tensor_digest
from bundle.site.release.ledger import ReleaseLedger
from bundle.site.release.policy import ReleasePolicy
from bundle.site.release.refusal_count import Refusals
from bundle.site.release.released import Released
from bundle.site.release.secret import commitment, site_secret

__all__ = ["ReleaseRecords"]


class ReleaseRecords:
    """
    Without a file all is counted in memory, and forgotten with the object.

    Args:
        policy: the site's release policy.
        site: name of the site.
        path: file of the ledger; None for none. The site's secret lies beside it, in a file of the same name that ends
            in ``.secret``.
        training: what the ledger calls the training, in words.
        secret: the site's, in the place of the one beside the ledger; None for that.
        first_secret: what that one is to be where there is none yet; None to draw it.

    ``released`` is what left so far, whichever training let it out; before :meth:`open` nothing is known of it.
    ``refusals`` counts what was refused by this object.
    """

    def __init__(
        self,
        policy: ReleasePolicy,
        site: str,
        path: str | PathLike | None = None,
        training: str = "",
        secret: int | None = None,
        first_secret: int | None = None,
    ) -> None:
        self.policy = policy
        self.site = site
        self.training = training
        self.released = Released(make_budget(policy))
        self.refusals = Refusals()
        self._path = None if path is None else Path(path)
        self._ledger: ReleaseLedger | None = None
        self._secret = secret
        self._first_secret = first_secret
        self._unwritten: list[str] = []  # samples whose issue is in no entry yet
        _all.add(self)

    @property
    def secret(self) -> int:
        """
        What nobody but this site knows, the same in all its trainings.

        Raises:
            LedgerError: when the file that keeps it is damaged.
        """
        if self._secret is None:
            self._secret = site_secret(self.beside("secret"), self._first_secret)
        return self._secret

    def beside(self, ending: str) -> Path | None:
        """A file beside the ledger, of its name with another ending; None where there is no ledger."""
        return None if self._path is None else self._path.with_suffix(f".{ending}")

    def open(self) -> None:
        """
        Open the ledger, where there is one and it is not open, and add up what is in it.

        Raises:
            LedgerError: when it is damaged, or of another site or secret.
            OSError: when it can neither be read nor written.
        """
        if self._ledger is not None or self._path is None:
            return
        ledger = ReleaseLedger(self._path, self.site)
        try:
            self.released = Released.of(ledger.entries(), self.policy)
            about = {"policy_fields": self.policy.to_dict(), "training": self.training} | self._commit()
        except BaseException:
            ledger.close()
            raise
        self.released.issued.update(self._unwritten)
        self._ledger = ledger
        self.write("start", **about)

    def folds(self, patients: Sequence[str], count: int) -> dict[str, int]:
        """
        The fold, from 0, of each of some patients: as the ledger holds it, and for those that it does not know one of
        the smallest, in an order that the secret makes; that is written down.

        Args:
            patients: names of patients; the ledger has their digests.
            count: of folds.

        Raises:
            ValueError: when the ledger holds folds of another number.
            LedgerError, OSError: see :meth:`open`.
        """
        self.open()
        known = self.released.folds
        if known and self.released.fold_count != count:
            raise ValueError(
                f"its ledger holds {self.released.fold_count} folds of its patients, and they would be {count} now: "
                "they stay for the life of a ledger"
            )
        digests = {patient: tensor_digest([patient])[:16] for patient in patients}
        sizes = Counter(known.values())
        new: dict[str, int] = {}
        for digest in sorted(set(digests.values()) - set(known), key=lambda one: derive_seed(self.secret, "fold", one)):
            fold = min(range(count), key=lambda one: (sizes[one], one))
            sizes[fold] += 1
            new[digest] = fold
        if new:
            self.write("folds", count=count, patients=new)
            self.released.folds = known | new
            self.released.fold_count = count
        return {patient: self.released.folds[digest] for patient, digest in digests.items()}

    def issue(self, samples: Sequence[str]) -> None:
        """Count that conditions of these samples leave; the next release writes it down."""
        self.released.issued.update(samples)
        self._unwritten += samples

    def write(self, kind: str, **about: Any) -> None:
        """
        Write an entry.

        Raises:
            LedgerError, OSError: see :meth:`open`.
        """
        self.open()
        if self._ledger is not None:
            self._ledger.append(kind, policy=self.policy.name, **about)

    def write_release(self, kind: str, **about: Any) -> None:
        """Write the entry of a release, with the samples that were issued since the one before; as :meth:`write`."""
        self.write(kind, **about | ({"samples": self._unwritten} if self._unwritten else {}))
        self._unwritten = []

    def note_refusal(self, reason: str, words: str) -> None:
        """Count a refusal of one of few kinds, and write it down as :class:`Refusals` says."""
        self.refusals.add(reason, words, self.write)

    def close(self) -> None:
        """Write what refusals wait, and let go of the ledger's file; it is opened again when there is something."""
        self.refusals.flush(self.write)
        if self._ledger is not None:
            self._ledger.close()
        self._ledger = None

    def __del__(self) -> None:
        if hasattr(self, "_unwritten") and not sys.is_finalizing():
            self.close()

    def _commit(self) -> dict[str, str]:
        """What tells this site's secret from others, where label maps are deformed or drawn by it."""
        if self.policy.conditions not in ("deformed", "drawn"):
            return {}
        own = commitment(self.secret)
        if self.released.secrets - {own}:
            file = self._path.with_suffix(".secret")
            raise LedgerError(
                f"{file} is not the secret by which {self._path} says that label maps were deformed or drawn: with "
                "another one, a second of each would leave. Restore the file, or begin a new ledger"
            )
        return {"secret": own}


_all: WeakSet[ReleaseRecords] = WeakSet()


@atexit.register
def _close_all() -> None:
    # refusals that wait for their minute
    for records in list(_all):
        records.close()
