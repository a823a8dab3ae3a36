"""What is refused before any work is done, by the name of the argument."""

import re

import jax
import jax.numpy as jnp
import pytest

import fungrad as fg
from fungrad.inputs import (
    APGD,
    DDN,
    FMN,
    LBFGS,
    PGD,
    CarliniWagner,
    DeepFool,
    Misclassified,
    Square,
)

from .cases import linear

MODEL, X, LABELS = linear()
KEY = jax.random.key(0)


def attack(**changes):
    arguments = {
        "model": MODEL,
        "x": X,
        "criterion": Misclassified(changes.pop("labels", LABELS)),
        "method": PGD(steps=1),
        "epsilons": 0.1,
        "key": KEY,
    }
    return fg.inputs.attack(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": jnp.ones((12, 9), int)}, TypeError, "x must be floating-point"),
        ({"x": X[0]}, ValueError, "x must be a batch"),
        ({"x": X[:0]}, ValueError, "x must be a batch"),
        ({"x": X.at[1, 2].set(jnp.nan)}, ValueError, "x must be finite, got nan"),
        ({"x": X + 1}, ValueError, "x must be inside bounds"),
        ({"bounds": (1.0, 0.0)}, ValueError, "bounds must be (low, high) with low < high"),
        ({"bounds": 1.0}, ValueError, "bounds must be two numbers"),
        ({"labels": LABELS.astype(float)}, TypeError, "labels must be integers"),
        ({"labels": LABELS + 4}, ValueError, "labels must be in [0, 4)"),
        ({"labels": LABELS - 9}, ValueError, "labels must be in [0, 4)"),
        ({"labels": LABELS[:-1]}, ValueError, "labels must have shape [12]"),
        ({"labels": LABELS[:, None]}, ValueError, "labels must have shape [12]"),
        ({"epsilons": -0.1}, ValueError, "epsilons must be finite and at least 0, got -0.1"),
        ({"epsilons": [0.1, jnp.nan]}, ValueError, "epsilons must be finite"),
        ({"epsilons": [[0.1]]}, ValueError, "epsilons must be a number or [K]"),
        ({"epsilons": []}, ValueError, "epsilons must be a number or [K]"),
        ({"epsilons": True}, TypeError, "epsilons must be real numbers"),
        ({"epsilons": None}, ValueError, "epsilons must be given to PGD"),
        ({"method": PGD}, TypeError, "write PGD()"),
        ({"method": "pgd"}, TypeError, "method must be a method"),
        ({"criterion": LABELS}, TypeError, "criterion must be Misclassified(labels)"),
        ({"key": 0}, TypeError, "key must be a random key"),
        ({"chunk": 0}, ValueError, "chunk must be a positive integer"),
        ({"model": 3}, TypeError, "model must be a function"),
        ({"model": lambda x: jax.nn.softmax(MODEL(x))}, ValueError, "leave out the softmax"),
        ({"model": lambda x: MODEL(x)[:, 0]}, ValueError, "model must return logits [N, C]"),
        ({"model": lambda x: MODEL(x)[:, :1]}, ValueError, "of at least two classes"),
        ({"model": lambda x: MODEL(x)[0]}, ValueError, "model must return logits [N, C]"),
        ({"model": lambda x: (MODEL(x), 1.0)}, TypeError, "model must return one"),
        ({"model": lambda x: MODEL(x) * jnp.nan}, ValueError, "got NaN among the logits"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_refusals(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        attack(**changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD(norm=3), "norm must be 1, 2 or"),
        (lambda: PGD(norm="inf"), "norm must be 1, 2 or"),
        (lambda: DDN(norm=1), "norm must be 2 for DDN"),
        (lambda: CarliniWagner(norm=float("inf")), "norm must be 2 for CarliniWagner"),
        (lambda: LBFGS(norm=1), "norm must be 2 for LBFGS"),
        (lambda: PGD(steps=0), "steps must be a positive integer for PGD"),
        (lambda: FMN(steps=1.5), "steps must be a positive integer for FMN"),
        (lambda: PGD(restarts=True), "restarts must be a positive integer"),
        (lambda: PGD(step_size=0), "step_size must be a positive number"),
        (lambda: Square(share=-1.0), "share must be a positive number"),
        (lambda: DeepFool(candidates=0), "candidates must be a positive integer"),
        (lambda: CarliniWagner(confidence=-1.0), "confidence must be at least 0"),
        (lambda: APGD(loss="dlr"), "loss must be one of cross_entropy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_methods_refuse_when_they_are_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_methods_are_values():
    assert PGD(norm=2.0) == PGD(norm=2)
    assert hash(PGD(norm=2.0)) == hash(PGD(norm=2))
    assert PGD(norm=jnp.inf) == PGD()
    with pytest.raises(AttributeError):
        PGD().steps = 3
