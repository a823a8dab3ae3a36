"""Four attacks without parameters to tune, one after the other, and five doubts about the model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fungrad import _jax
from fungrad.inputs.attacks.apgd import APGD
from fungrad.inputs.attacks.boundaries import FAB
from fungrad.inputs.attacks.method import Method
from fungrad.inputs.attacks.square import Square


class MaskingWarning(UserWarning):
    """A sign that the model hides its gradients, and is less robust than an attack says."""


@dataclass(frozen=True)
class AutoAttack(Method):
    """APGD on the cross-entropy, APGD towards targets, FAB towards targets, Square.

    Each attacks the examples that the ones before it left. Five signs of gradient masking are
    looked for, and each raises a `MaskingWarning` that says what to do:

    - the model is random: read twice, it gives different logits;
    - its outputs lie in [0, 1], as probabilities do;
    - its gradient is exactly zero at some examples;
    - it runs a loop of unknown length, as defences do that optimise at test time;
    - the black box, Square, finds more than the gradients do.

    Attributes:
        norm: 1, 2 or ∞.
        steps: of APGD and FAB.
        restarts: of APGD and FAB, for each target.
        targets: classes that are aimed at.
        queries: of Square.

    >>> [type(part).__name__ for part in AutoAttack().parts]
    ['APGD', 'APGD', 'FAB', 'Square']

    Source: [croce2020].
    """

    steps: int = 100
    restarts: int = 1
    targets: int = 9
    queries: int = 5000

    counts: ClassVar[tuple[str, ...]] = ("steps", "restarts", "targets", "queries")

    @property
    def parts(self) -> tuple[Method, ...]:
        """The attacks in their order."""
        common: dict[str, Any] = {
            "norm": self.norm,
            "steps": self.steps,
            "restarts": self.restarts,
            "targets": self.targets,
        }
        return (
            APGD(loss="cross_entropy", **common),
            APGD(loss="targeted_logits_ratio", **common),
            FAB(**common),
            Square(norm=self.norm, steps=self.queries),
        )


def doubt_logits(graph: Any, z: Any, again: Any) -> None:
    """Warns of a model that is random, has bounded outputs, or loops as long as it likes."""
    z, again = np.asarray(z, np.float64), np.asarray(again, np.float64)
    spread = np.ptp(z, axis=1).max()
    if np.abs(z - again).max() > 0.05 * spread:
        _warn(
            "the model is random: read twice, it gives logits that differ by "
            f"{np.abs(z - again).max():.3g}; attack its mean over many draws"
        )
    if (z >= 0).all() and (z <= 1).all():
        _warn("all outputs lie in [0, 1], as after a sigmoid; attack what comes before it")
    if _loops(graph):
        _warn(
            "the model runs a while loop, as defences do that optimise at test time; its gradient "
            "may not be what it seems, so adapt the attack to it"
        )


def doubt_gradients(zero: Any) -> None:
    """Warns where the gradient is exactly zero, zero [N]."""
    count = int(np.sum(zero))
    if count:
        _warn(
            f"the gradient is exactly zero at {count} of {len(zero)} examples; look for "
            "a rounding or a saturated function in the model, for example with fg.diagnose"
        )


def doubt_robustness(by_gradients: int, by_queries: int, examples: int) -> None:
    """Warns where the black box finds more than the gradients."""
    if by_queries > 1 + 0.002 * examples:  # one may lie on the very border of the ball
        _warn(
            f"Square, which takes no gradients, broke {by_queries} examples that {by_gradients} "
            "successes by gradients did not include; the model hides its gradients"
        )


def _warn(message: str) -> None:
    warnings.warn(f"AutoAttack: {message}", MaskingWarning, stacklevel=4)


def _loops(graph: Any) -> bool:
    """Whether a while loop is anywhere in the graph."""
    equations = graph.jaxpr.eqns
    return any(
        equation.primitive.name == "while" or any(map(_loops, _jax.subgraphs(equation)))
        for equation in equations
    )
