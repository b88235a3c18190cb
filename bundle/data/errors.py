"""The one error that bad data raises."""

from __future__ import annotations

from collections.abc import Sequence

MAX_LISTED = 20


class DataError(ValueError):
    """Data that cannot be used. The message names the file, the field and what was expected."""

    @classmethod
    def listing(cls, head: str, problems: Sequence[str]) -> DataError:
        """One error for many problems, so that a user mends a data set in one round instead of in twenty.

        Args:
            head: what was being read, e.g. ``"data list /data/datalist.json"``.
            problems: one sentence each; the first 20 are shown, the rest are counted.
        """
        shown = [f"  - {problem}" for problem in problems[:MAX_LISTED]]
        if len(problems) > MAX_LISTED:
            shown.append(f"  - ... and {len(problems) - MAX_LISTED} more")
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        return cls("\n".join([f"{head}: {count}", *shown]))
