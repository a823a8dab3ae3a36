"""What a worked example yields: a row with the seed's value, the computed one, and a verdict."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fungrad as fg
from fungrad import notation

# ---- who differentiates --------------------------------------------------------------------------


class Witness:
    """The transforms that the examples use; their results come back as NumPy arrays.

    So all that is not differentiated is NumPy: above all the seeds' formulas, read to the letter.
    """

    def __init__(self, transforms: Any, jacobian: Callable):
        self.grad, self.jacrev = plain(transforms.grad), plain(transforms.jacrev)
        self.hessian, self.jacobian = plain(transforms.hessian), plain(jacobian)
        self.joined = transforms.vjp

    def vjp(self, fun: Callable, *args: Any) -> tuple[np.ndarray, Callable]:
        out, back = self.joined(fun, *args)
        return np.asarray(out), lambda g: jax.tree.map(np.asarray, back(jnp.asarray(g)))


def plain(transform: Callable) -> Callable:
    def transformed(fun: Callable, argnums: Any = 0) -> Callable:
        compiled = jax.jit(transform(fun, argnums))
        return lambda *args: jax.tree.map(np.asarray, compiled(*args))

    return transformed


def explicit_jacobian(fun: Callable, argnums: int = 0) -> Callable:
    """JAX's array of derivatives as the matrix [m × n]; `fungrad.jacobian` gives it directly."""

    def matrix(*args):
        return notation.as_matrix(jax.jacrev(fun, argnums)(*args), jnp.shape(fun(*args)))

    return matrix


FUNGRAD = Witness(fg, fg.jacobian)
JAX = Witness(jax, explicit_jacobian)


# ---- numbers to try a formula on, and the two functions that formulas need -----------------------


def normals(seed: int) -> Callable[..., np.ndarray]:
    """`normals(0)(2, 3)`: the next [2 × 3] of the stream of normal numbers with this seed."""
    stream = np.random.default_rng(seed)
    return lambda *shape: np.asarray(stream.normal(size=shape))


def sigmoid(a: Any) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(a)))


def softmax(s: Any) -> np.ndarray:
    return np.exp(s) / np.sum(np.exp(s), axis=-1, keepdims=True)


# ---- where a seed errs ---------------------------------------------------------------------------

KINDS = {
    "slip": "the seed is wrong",
    "rounding": "the seed's last digit is wrong",
    "damage": "the text extraction lost or changed signs",
    "convention": "the seed is right under a convention that fungrad does not share",
}


@dataclass(frozen=True)
class Remark:
    """What should stand where a seed errs, and why; `kind` is one of KINDS."""

    kind: str
    right: str
    why: str


# ---- a row ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Row:
    """One value of a seed.

    Args:
        lines: where it stands, as lines of the seed's text.
        quantity: what it is.
        printed: what the seed prints there, for a reader.
        value: what the differentiator gives; None where the seed errs in words alone.
        reading: the printed numbers, or the printed formula evaluated to the letter.
        margin: how far apart the two may be: half a unit of the last digit that is shown.
        kind: "digits", "formula" (the reading is evaluated on the same numbers), "size", "words".
        remark: what is right and why; None where the seed is right.
    """

    lines: str
    quantity: str
    printed: str
    value: np.ndarray | None = None
    reading: np.ndarray | None = None
    margin: np.ndarray | None = None
    kind: str = "words"
    remark: Remark | None = None

    @property
    def agrees(self) -> bool:
        """Whether the seed's value is the computed one, within the digits that it shows."""
        if self.value is None or self.reading is None or self.value.shape != self.reading.shape:
            return False
        return bool(np.all(np.abs(self.value - self.reading) <= self.margin))

    @property
    def verdict(self) -> str:
        """A remark's kind; without one "agrees", or "unexplained" if it does not."""
        if self.remark is not None:
            return self.remark.kind
        return "agrees" if self.agrees else "unexplained"

    def slip(self, right: str, why: str) -> Row:
        return replace(self, remark=Remark("slip", right, why))

    def rounding(self, right: str, why: str) -> Row:
        return replace(self, remark=Remark("rounding", right, why))

    def damage(self, right: str, why: str) -> Row:
        return replace(self, remark=Remark("damage", right, why))

    def convention(self, right: str, why: str) -> Row:
        return replace(self, remark=Remark("convention", right, why))


NUMBER = re.compile(r"[-−]?\d+(?:\.(\d*))?(?:e[-+]?\d+)?")
SLACK = 1e-12  # relative: two ways to compute one number in float64 differ by this much


def shown(lines: str, quantity: str, printed: str, value: Any) -> Row:
    """A value that the seed prints in digits: "0.604 0.291", rows of a matrix separated by ";".

    Digits after the point bound the error by half a unit of the last one; a number without a
    point is meant to be exact.
    """
    digits = [list(NUMBER.finditer(row)) for row in printed.split(";")]
    reading = [[float(number[0].replace("−", "-")) for number in row] for row in digits]
    margin = [[0.5 * 10.0 ** -len(n[1]) if n[1] else 0.0 for n in row] for row in digits]
    reading, margin, value = np.squeeze(reading), np.squeeze(margin), np.squeeze(numbers(value))
    slack = SLACK * np.maximum(np.abs(reading), 1.0)
    return Row(lines, quantity, bracketed(printed), value, reading, margin + slack, "digits")


def formula(lines: str, quantity: str, printed: str, reading: Any, value: Any) -> Row:
    """A formula of the seed; `reading` is that formula to the letter, on the same numbers."""
    value, reading = numbers(value), numbers(reading)
    margin = SLACK * max(float(np.max(np.abs(value), initial=0.0)), 1.0)
    return Row(lines, quantity, printed, value, reading, np.asarray(margin), "formula")


def sized(lines: str, quantity: str, printed: tuple[int, ...], array: Any) -> Row:
    """The size of an array, [m × n]."""
    text = f"[{' × '.join(map(str, printed))}]"
    value = numbers(np.shape(array))
    return Row(lines, quantity, text, value, numbers(printed), numbers(0), "size")


def words(lines: str, quantity: str, printed: str) -> Row:
    """A place where the seed errs in words, an index or a sign of the text: nothing to compute."""
    return Row(lines, quantity, printed)


def numbers(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=np.float64)


def bracketed(printed: str) -> str:
    """ "1 2; 3 4" as [1 2; 3 4]; a single number stays bare."""
    return f"[{printed}]" if re.search(r"[; ]", printed) else printed


# ---- an example ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """A system of a seed: `rows(differentiator)` runs it. The docstring is what the page says."""

    seed: str
    lines: str
    title: str
    lead: str
    name: str
    program: Callable[[Any], Iterator[Row]]

    def rows(self, differentiator: Any) -> list[Row]:
        return list(self.program(differentiator))


def example(seed: str, lines: str, title: str) -> Callable[[Callable], Example]:
    def wrap(program: Callable) -> Example:
        lead = inspect.cleandoc(program.__doc__ or "")
        return Example(seed, lines, title, lead, program.__name__, program)

    return wrap
