"""What a descent hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, repr=False)
class Failure:
    """The step that made a number that is not finite, with all it takes to look at it again.

    `fungrad.diagnose(cost)(failure.params, failure.batch)` finds the node that made it.

    Attributes:
        step: the failing step, counted from 0.
        cost: the cost at that step; finite where only the update was not.
        params: the parameters the step started from.
        batch: the examples of the step, as the cost got them; None where there are no data.
        rows: which examples these are, [batch_size]; None where the batch was all of the data.
        key: the key that the cost got; None where it takes none.
    """

    step: int
    cost: float
    params: Any
    batch: Any
    rows: np.ndarray | None
    key: Any

    def __repr__(self) -> str:
        return f"Failure(step={self.step}, cost={self.cost:.6g}, rows={self.rows})"


@dataclass(frozen=True, repr=False)
class Descent:
    """Where a descent ended, and how it went.

    Attributes:
        params: the parameters after the last step; after a failure the last good ones.
        history: the cost before each step, [steps]; after a failure of the cost its last entry
            is the cost that is not finite.
        stopped_because: one sentence: the steps were made, the cost stopped changing, or it was
            not finite.
        steps: how many updates were made.
        converged: whether the cost stopped changing.
        failure: the step that was not finite, else None.
        optimizer_state: what the optimizer keeps beside the parameters.
    """

    params: Any
    history: np.ndarray
    stopped_because: str
    steps: int
    converged: bool
    failure: Failure | None
    optimizer_state: Any

    def __repr__(self) -> str:
        costs = " -> ".join(f"{cost:.6g}" for cost in self.history[[0, -1]]) if self.steps else ""
        return f"Descent({costs or 'no steps'}; {self.stopped_because})"
