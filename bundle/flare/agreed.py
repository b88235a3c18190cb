"""What a job's server and its administrator agree on, for commands that ask and do not compute."""

from __future__ import annotations

__all__ = ["AVERAGED", "RESULTS", "SCORED", "TOPIC", "TRAINED"]

TOPIC = "training"
"""Of an administrator's questions to a job."""
TRAINED = ("generator.pt", "record.json")
"""Files of a finished training that an administrator may collect. Conditions are not among them."""
AVERAGED = ("segmenter.pt", "record.json")
"""Files of a finished averaging."""
SCORED = ("federated_evaluation.json",)
"""The file of a finished evaluation."""
RESULTS = (TRAINED, SCORED, AVERAGED)
"""The files of a finished job: of a training, an evaluation, or an averaging."""
