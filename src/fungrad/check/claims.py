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
from fungrad.check.rounding import spread

SPREADS = 2
_QUICK = {"xla_backend_optimization_level": 0}  # small programs take longest to compile
_CONSTANTS = 4096  # arguments of so few entries are compiled as constants


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
        about: "entries": each entry is a gradient at the case's g, or "directions": each is a
            slope along one of the random directions; then a kink may explain it.
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
            sound, claims = cases, numbers_of(witness, cases, measure=False)
        except Exception:  # of any type: what the code under test raises is its verdict
            sound, claims = [], []
            for case in cases:
                try:
                    claims += numbers_of(witness, [case], measure=False)
                    sound.append(case)
                except Exception as error:
                    if case.runs:
                        raised.append(Raised(case, name, error))
                    else:
                        why = type(error).__name__
                        reasons.append(f"the function itself does not run here ({why})")
        reasons += [one.reason for some in claims for one in some if isinstance(one, Silence)]
        found = [
            (case, list(compare(name, case, some, None)))
            for case, some in zip(sound, claims, strict=True)
        ]
        made = [one for some in claims for one in some if isinstance(one, Claim)]
        doubtful = [case for case, wrong in found if wrong]
        if doubtful:
            both = [numbers_of(witness, [case], measure=True)[0] for case in doubtful]
            found = [
                (case, list(compare(name, case, *pair)))
                for case, pair in zip(doubtful, both, strict=True)
            ]
    failed = raised + [wrong for _, several in found for wrong in several]
    compared = sum(np.size(x) for claim in made for x in claim.got)
    return Proof(failed, compared, tuple(dict.fromkeys(reasons)))


def numbers_of(witness: Witness, cases: Sequence[Case], measure: bool) -> list[Any]:
    """The claims at each case, as NumPy arrays; with the spreads of their numbers to `measure`."""

    def claims(at):
        return [witness(case, g, points) for case, (g, points) in zip(cases, at, strict=True)]

    at = [(list(case.g), list(case.points)) for case in cases]
    coarsest = max(case.coarsest for case in cases) if measure else 0.0
    program, shape = jax.make_jaxpr(claims, return_shape=True)(at)
    leaves, tree = jax.tree.leaves(at), jax.tree.structure(shape)
    if not program.jaxpr.outvars:
        nothing = jax.tree.unflatten(tree, [])
        return [(some, some) for some in nothing] if measure else nothing

    def run(*leaves):
        found = jaxpr_as_fun(program)(*leaves)
        return (found, spread(program, leaves, coarsest)) if measure else found

    # A program whose arguments are constants takes XLA a third of the time: it has them folded.
    if sum(x.size for x in leaves) < _CONSTANTS:
        compiled = jax.jit(lambda: run(*leaves), compiler_options=_QUICK)
        found = jax.device_get(compiled())
    else:
        found = jax.device_get(jax.jit(run)(*leaves))
    if measure:
        values, moves = (jax.tree.unflatten(tree, x) for x in found)
        return list(zip(values, moves, strict=True))
    return jax.tree.unflatten(tree, found)


def compare(
    name: str, case: Case, claims: Sequence[Any], moves: Sequence[Any] | None
) -> Iterator[Disagreement]:
    """The disagreements of claims made of NumPy arrays; `moves` tells how far rounding goes."""
    for i, claim in enumerate(claims):
        if isinstance(claim, Silence):
            continue
        for k, (a, b) in enumerate(zip(claim.got, claim.want, strict=True)):
            path = (case.paths if claim.paths is None else claim.paths)[k]
            dtype = str(a.dtype)
            tolerance = _tolerance(a, b, None if claim.slack is None else claim.slack[k])
            if moves is not None:
                moved = np.asarray(moves[i].got[k], float) + np.asarray(moves[i].want[k], float)
                tolerance = tolerance + SPREADS * moved
            a, b = _wide(a), _wide(b)
            with np.errstate(all="ignore"):
                error = np.abs(a - b)
                same = (a == b) | (np.isnan(a) & np.isnan(b)) | (error <= tolerance)
                badness = np.where(same, -1.0, np.nan_to_num(error / tolerance, nan=np.inf))
            order = np.argsort(-badness, axis=None, kind="stable")
            wrong = order[: np.count_nonzero(~same)]
            if len(wrong):
                yield Disagreement(
                    case, name, k, path, claim.rows, claim.about, a, b, tolerance, wrong, dtype
                )


def _tolerance(got: Any, want: Any, slack: Any) -> np.ndarray:
    if not is_float(got):
        return np.zeros(np.shape(got))
    info = jax.numpy.finfo(got.dtype)
    eps, tiny = float(info.eps), float(info.tiny)
    quick = 1e-12 if eps < 1e-12 else 2 * eps
    with np.errstate(all="ignore"):
        size = np.nan_to_num(np.abs(_wide(want)), posinf=0.0)
    return quick * size + tiny + (0.0 if slack is None else np.asarray(slack, float))


def _wide(x: Any) -> np.ndarray:
    return np.asarray(x, complex if is_complex(x) else float)
