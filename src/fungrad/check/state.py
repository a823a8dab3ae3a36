"""Checks of calls: a pullback must not remember, nor depend on how it is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from fungrad.check.arrays import Arrays, formats_of, random_like, scaled
from fungrad.check.cases import Case
from fungrad.check.claims import Claim, Disagreement, compare
from fungrad.check.rounding import spread
from fungrad.check.running import QUICK, are_few, run_once
from fungrad.check.verdict import Finding

WITNESS = "calls"


def of_leak(error: Exception) -> str:
    """What a rule did that met a tracer of a trace that has ended."""
    return (
        "the rule keeps a value of an earlier call that was traced, and uses it in a later one; a "
        "residual must travel through the residuals that the forward function returns "
        f"({str(error).splitlines()[0]})"
    )


def of_calls(case: Case) -> Iterator[Disagreement | Finding]:
    """What goes wrong when the pullback is called again, after others, and compiled.

    A residual that is kept outside of the pullback, from another call or from a trace that has
    ended, shows here: all but what is compiled is run as it stands, one operation after another.
    """
    assert case.vjp is not None
    with formats_of([*case.points, *case.g]):
        # What is NumPy's would be summed by NumPy, in its own order and format.
        g, points, other_g, other = (
            [jnp.asarray(x) for x in arrays]
            for arrays in (
                case.g,
                case.points,
                random_like(case.g, seed=6),
                [scaled(x, 0.9) for x in case.points],
            )
        )
        try:
            compiled = jax.jit(case.pull, compiler_options=QUICK if are_few(points) else None)
            by_jit, other_by_jit = compiled(g, points), compiled(other_g, other)
            _, first = case.vjp(*points)
            once = first(g)
            _, second = case.vjp(*other)
            again = first(g)
            other_once, other_again = second(other_g), second(other_g)
        except jax.errors.UnexpectedTracerError as error:
            yield Finding("fault", case.name, WITNESS, text=of_leak(error), where=case.where)
            return
        except Exception:  # of any type: the contract reports it
            return
        pairs = [
            ("called again after another call", again, once, (g, points)),
            ("called twice", other_again, other_once, (other_g, other)),
            ("compiled", by_jit, once, (g, points)),
            ("compiled, for other arguments", other_by_jit, other_once, (other_g, other)),
        ]
        for how, got, want, at in pairs:
            wrong = _wrong(case, how, got, want, None)
            if wrong:  # then the compiler may have changed the order of a sum
                wrong = _wrong(case, how, got, want, _moves(case, *at))
            yield from wrong


def _wrong(case: Case, how: str, got: Any, want: Any, moves: Any) -> list[Disagreement]:
    claim = Claim(list(jax.device_get(got)), list(jax.device_get(want)))
    return list(compare(f"{WITNESS} ({how})", case, [claim], moves))


def _moves(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    program = jax.make_jaxpr(case.pull)(g, points)
    moves = run_once(lambda *x: spread(program, x, case.coarsest), *g, *points)
    return [Claim(moves, moves)]
