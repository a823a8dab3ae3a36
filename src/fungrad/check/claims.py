"""Claims of equality, and the tolerance that the arithmetic of their formats allows.

A claim is kept if every entry of it is

    |got − want| ≤ quick |want| + slack + tiny

with quick = 1e-12 in float64, 2 eps in narrower formats. Where that fails, the rounding errors of
both sides are measured (see `rounding`), and twice their spread is allowed in addition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from fungrad.check.arrays import Arrays, formats_of, is_complex, is_float
from fungrad.check.cases import Case
from fungrad.check.programs import primitives
from fungrad.check.rounding import spread
from fungrad.check.running import QUICK, are_few, run_once
from fungrad.check.widening import widened

SPREADS = 2
_EPS_64 = float(np.finfo(float).eps)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["got", "want", "slack"],
    meta_fields=["paths", "rows", "about"],
)
@dataclass(frozen=True)
class Claim:
    """That lists of arrays are equal, but for rounding and `slack`.

    Attributes:
        paths: what each array is about; `None`: the arguments of the case, in order.
        rows: the leading axis of each array counts the rows of a Jacobian.
        about: "entries": each entry is a gradient at the case's g, "directions": each is a slope
            along one of the random directions, or "second order": each is a gradient of the
            gradients; then a kink may explain it.
    """

    got: Arrays
    want: Arrays
    slack: Arrays | None = None
    paths: tuple[str, ...] | None = None
    rows: bool = False
    about: str = ""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Silence:
    """Why a witness that ought to know a gradient cannot be asked."""

    reason: str


@dataclass(frozen=True)
class Disagreement:
    """An array of a claim that is not kept, with the entries that disagree, the worst one first."""

    case: Case
    witness: str
    argument: int
    path: str
    rows: bool
    about: str
    got: np.ndarray
    want: np.ndarray
    tolerance: np.ndarray
    entries: np.ndarray
    dtype: str


Witness = Callable[[Case, Arrays, Arrays], Sequence[Claim | Silence]]


@dataclass(frozen=True)
class Raised:
    """An error that a case raised when a witness looked at it."""

    case: Case
    witness: str
    error: Exception


class Proof(NamedTuple):
    """What a witness made of some cases: what failed, how many entries it compared, where not."""

    failed: list[Disagreement | Raised]
    compared: int
    reasons: tuple[str, ...]


def prove(name: str, witness: Witness, cases: Sequence[Case]) -> Proof:
    """Take a witness at every case, in one compiled program."""
    reasons = [case.silent[name] for case in cases if name in case.silent]
    cases = [case for case in cases if name not in case.silent]
    raised: list[Disagreement | Raised] = []
    with formats_of([x for case in cases for x in (*case.points, *case.g)]):
        try:
            sound, claims = cases, numbers_of(witness, cases)
        except Exception:  # of any type: what the code under test raises is its verdict
            sound, claims = [], []
            for case in cases:
                try:
                    claims += numbers_of(witness, [case])
                    sound.append(case)
                except Exception as error:
                    if case.runs:
                        raised.append(Raised(case, name, error))
                    else:
                        why = type(error).__name__
                        reasons.append(f"the function itself does not run here ({why})")
        reasons += [one.reason for some in claims for one in some if isinstance(one, Silence)]
        made = [one for some in claims for one in some if isinstance(one, Claim)]
        found = [
            wrong
            for case, some in zip(sound, claims, strict=True)
            if any(compare(name, case, some))
            for wrong in _doubted(name, witness, case, some)
        ]
    compared = sum(np.size(x) for claim in made for x in claim.got)
    return Proof([*raised, *found], compared, tuple(dict.fromkeys(reasons)))


def _doubted(
    name: str, witness: Witness, case: Case, claims: Sequence[Any]
) -> Iterator[Disagreement]:
    """The disagreements that rounding does not explain, of the gradients or of the witness."""
    (moves,) = numbers_of(witness, [case], partial(spread, coarsest=case.coarsest))
    found = list(compare(name, case, claims, moves))
    if found and case.eps > _EPS_64:
        try:
            (wide,) = numbers_of(witness, [case], widened)
        except Exception:  # of any type: a program need not run in formats that it did not choose
            wide = None
        found = compare(name, case, claims, moves, wide)
    yield from found


def numbers_of(witness: Witness, cases: Sequence[Case], by: Any = None) -> list[list[Any]]:
    """The claims at each case, as NumPy arrays; or what `by(program, inputs)` makes of them."""

    def claims(at):
        return [witness(case, g, points) for case, (g, points) in zip(cases, at, strict=True)]

    at = [(list(case.g), list(case.points)) for case in cases]
    program, shape = jax.make_jaxpr(claims, return_shape=True)(at)
    leaves, tree = jax.tree.leaves(at), jax.tree.structure(shape)
    if not program.jaxpr.outvars:
        return jax.tree.unflatten(tree, [])

    def run(*leaves):
        return jaxpr_as_fun(program)(*leaves) if by is None else by(program, leaves)

    names = primitives(program)
    if not are_few(leaves) or "while" in names:
        return jax.tree.unflatten(tree, run_once(run, *leaves))
    # With its arguments as constants XLA takes a third of the time: it has the program folded, but
    # a while loop only one iteration after another. Convolutions it runs slowly unless optimised.
    options = None if "conv_general_dilated" in names else QUICK
    compiled = jax.jit(lambda: run(*leaves), compiler_options=options)
    return jax.tree.unflatten(tree, jax.device_get(compiled()))


def compare(
    name: str,
    case: Case,
    claims: Sequence[Any],
    moves: Sequence[Any] | None = None,
    wide: Sequence[Any] | None = None,
) -> Iterator[Disagreement]:
    """The disagreements of claims made of NumPy arrays.

    Args:
        moves: the same claims with how far rounding moves each number.
        wide: the same claims in float64. An entry that the witness has there is right, be it that
            the witness itself lost it to rounding.
    """
    for i, claim in enumerate(claims):
        if isinstance(claim, Silence):
            continue
        for k, (a, b) in enumerate(zip(claim.got, claim.want, strict=True)):
            path = (case.paths if claim.paths is None else claim.paths)[k]
            slack = 0.0 if claim.slack is None else np.asarray(claim.slack[k], float)
            theirs = 0.0
            if moves is not None:
                slack = slack + SPREADS * np.asarray(moves[i].got[k], float)
                theirs = SPREADS * np.asarray(moves[i].want[k], float)
            tolerance = _tolerance(a, b) + slack + theirs
            error, same = _distance(a, b, tolerance)
            if np.isnan(a).any() and case.is_undefined:
                same |= np.isnan(a)
            if wide is not None:
                exact = wide[i].want[k]
                same |= _distance(a, exact, _tolerance(a, exact) + slack)[1]
            with np.errstate(all="ignore"):
                badness = np.where(same, -1.0, np.nan_to_num(error / tolerance, nan=np.inf))
            order = np.argsort(-badness, axis=None, kind="stable")
            wrong = order[: np.count_nonzero(~same)]
            if len(wrong):
                about, dtype = (claim.rows, claim.about), str(a.dtype)
                a, b = _wide(a), _wide(b)
                yield Disagreement(case, name, k, path, *about, a, b, tolerance, wrong, dtype)


def _distance(got: Any, want: Any, tolerance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far two arrays are apart, and where that is within the tolerance."""
    a, b = _wide(got), _wide(want)
    with np.errstate(all="ignore"):
        error = np.abs(a - b)
        return error, (a == b) | (np.isnan(a) & np.isnan(b)) | (error <= tolerance)


def _tolerance(got: Any, want: Any) -> np.ndarray:
    if not is_float(got):
        return np.zeros(np.shape(got))
    info = jax.numpy.finfo(got.dtype)
    eps, tiny = float(info.eps), float(info.tiny)
    quick = 1e-12 if eps < 1e-12 else 2 * eps
    with np.errstate(all="ignore"):
        size = np.nan_to_num(np.abs(_wide(want)), posinf=0.0)
    return quick * size + tiny


def _wide(x: Any) -> np.ndarray:
    return np.asarray(x, complex if is_complex(x) else float)
