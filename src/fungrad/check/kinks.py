"""Kinks told apart from bugs: where two witnesses disagree, one-sided slopes decide.

The gradient of an entry is

- a convention, if the slopes to the left and right differ and it lies within them, or is JAX's:
  of several kinks that meet, each with a convention of its own, the slopes may be whatever;
- right, if it is the slope and the other witness is not: JAX's autodiff may give NaN, or the
  gradient of a branch that meets the function in one point only;
- a fault if the slopes say so;
- in doubt where differences are too coarse to tell, and then the other witness is believed;
- undefined if it is no finite number where the slopes differ: a fault at points that a user gave.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fungrad.check.arrays import formats_of, inner, parts
from fungrad.check.cases import Case
from fungrad.check.claims import Disagreement
from fungrad.check.differences import (
    COARSE,
    PROJECTIONS,
    directions,
    finite_of,
    scales,
    sides,
    without,
)
from fungrad.check.running import QUICK, are_few

_AT_ONCE = 256


class Judgement(NamedTuple):
    """What one-sided slopes say of an entry, one of `_SEVERITY`, and the slopes."""

    verdict: str
    low: float
    high: float


_SEVERITY = ("right", "kink", "undefined", "doubt", "fault")
GUILTY = ("undefined", "doubt", "fault")


def judge(wrong: Disagreement, until: Collection[str] = GUILTY) -> Iterator[tuple[int, Judgement]]:
    """The entries of a disagreement, each with a judgement, to the first of those in `until`."""
    for start in range(0, len(wrong.entries), _AT_ONCE):
        entries = wrong.entries[start : start + _AT_ONCE]
        for entry, judgement in zip(entries, _judgements(wrong, entries), strict=True):
            yield int(entry), judgement
            if judgement.verdict in until:
                return


def _judgements(wrong: Disagreement, entries: np.ndarray) -> list[Judgement]:
    case = wrong.case
    is_complex = np.iscomplexobj(wrong.got)
    size = wrong.got.size
    with formats_of([*case.points, *case.g]):
        sizes = [parts(x) for x in case.points]
        chosen = entries
        if wrong.about == "entries":
            first = PROJECTIONS + sum(sizes[: wrong.argument])
            chosen = np.concatenate([first + entries, first + size + entries][: 1 + is_complex])

        options = QUICK if are_few(case.points) else None

        def measured():
            return *sides(case, case.g, case.points, chosen), _by_reference(case, chosen)

        found = jax.device_get(jax.jit(measured, compiler_options=options)())
        scale = 1.0 if wrong.about == "directions" else float(scales(case.points)[wrong.argument])
    got, want = (_along_parts(x.ravel()[entries], is_complex) for x in (wrong.got, wrong.want))
    tolerance = np.tile(wrong.tolerance.ravel()[entries], 1 + is_complex)
    low, high, error, known = (np.asarray(x) / scale for x in found)
    finite = np.abs(wrong.got[np.isfinite(wrong.got)])
    coarse = 1e-6 * finite.max(initial=0.0)
    columns = zip(got, want, known, tolerance, low, high, error, strict=True)
    each = [_judge(coarse, *numbers) for numbers in columns]
    if is_complex:
        halves = zip(each[: len(entries)], each[len(entries) :], strict=True)
        each = [max(pair, key=_severity) for pair in halves]
    return each


def _by_reference(case: Case, which: np.ndarray) -> Any:
    """The slopes along directions by JAX's gradients; NaN where it has none."""
    if case.reference is None:
        return jnp.full(len(which), jnp.nan)
    finite, is_finite = finite_of(case.by_reference(case.g, case.points))
    v, lost = without(directions(case.points, which), is_finite, which)
    return jnp.where(lost, jnp.nan, jax.vmap(lambda d: inner(finite, d))(v))


def _along_parts(x: np.ndarray, is_complex: bool) -> np.ndarray:
    """Re G · v along the real and then along the imaginary unit."""
    return np.concatenate([np.real(x), -np.imag(x)]) if is_complex else x


def _severity(judgement: Judgement) -> int:
    return _SEVERITY.index(judgement.verdict)


def _judge(
    coarse: float,
    got: float,
    want: float,
    known: float,
    tolerance: float,
    low: float,
    high: float,
    error: float,
) -> Judgement:
    margin = error + tolerance
    differing = high - low > 2 * margin

    def is_within(x):
        return low - margin <= x <= high + margin

    if not error <= max(COARSE * max(abs(low), abs(high)), coarse):
        verdict = "doubt"
    elif differing and (is_within(got) or abs(got - known) <= tolerance):
        verdict = "kink"
    elif not is_within(got):
        verdict = "undefined" if differing and not np.isfinite(got) else "fault"
    elif not is_within(want) or abs(got - want) <= tolerance:
        verdict = "right"  # in the latter case another part of a complex number disagrees
    else:
        verdict = "doubt"
    return Judgement(verdict, low, high)
