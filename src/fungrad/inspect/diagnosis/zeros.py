"""Where a gradient that is exactly zero is blocked: from an argument on, along all its uses.

Let v be a value whose gradient is zero at the entries M. At each operation that reads v a
gradient g arrives, which its rule multiplies by J = ∂out/∂v. Where the entries of g that J hands on
to M are zero, the question is the same one operation later, for those entries. Where they are not,
the gradient ends here, because J is zero, or because the product is too small a number, or because
terms cancel. Which entries J hands on is found by asking its transpose, at random numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad.inspect.diagnosis.calls import Call, CustomJVP
from fungrad.inspect.diagnosis.loops import Loop
from fungrad.inspect.diagnosis.record import Frame, Part, rule_applied
from fungrad.inspect.diagnosis.values import Operation, Value

VISITS = 3
"""A loop's body is looked into so many times."""


@dataclass(frozen=True, eq=False)
class Block:
    """Where a gradient ends.

    Attributes:
        part: the operation.
        position: which of its inputs the gradient does not reach.
        kind: "no gradient", "zero slope", "underflow", "cancels" or "branch".
        is_idle: no gradient arrives there anyway.
    """

    part: Part
    position: int
    kind: str
    is_idle: bool = False

    @property
    def rank(self) -> tuple[Any, ...]:
        """The greater, the likelier it is what the user looks for: what comes late in the program.

        A comparison or a `stop_gradient` on a side track is no reason if there is another.
        """
        kind = 0 if self.is_idle else 1 if self.kind == "no gradient" else 2
        return kind, self.part.place().order


class Search:
    """The search for what blocks gradients, in the recorded run of a function."""

    def __init__(self) -> None:
        self.visits: Counter[Any] = Counter()

    def blocks(self, frame: Frame, variable: Any, mask: np.ndarray, outside: _Outside):
        """What blocks the gradient at some entries of a variable."""
        if not mask.any():
            return
        key = id(frame.level), id(variable)
        self.visits[key] += 1
        if self.visits[key] > VISITS:
            return
        terms = frame.terms.get(variable, [])
        if any(np.any(np.asarray(term.array != 0) & mask) for term in terms):
            yield from self._cancelling(frame, variable)
            return
        for i in frame.level.uses(variable):
            yield from self._inside(frame.parts[i], variable, mask, frame, outside)
        for j, out in enumerate(frame.level.graph.jaxpr.outvars):
            if out is variable:
                yield from outside.blocks(j, mask)

    def _cancelling(self, frame: Frame, variable: Any) -> Iterator[Block]:
        last = frame.level.uses(variable)[-1]
        part = frame.parts[last]
        position = part.equation.invars.index(variable)
        yield Block(part, position, "cancels")

    def _inside(self, part: Part, variable: Any, mask, frame, outside) -> Iterator[Block]:
        positions = [p for p, v in enumerate(part.equation.invars) if v is variable]
        after = _After(self, frame, part, outside)
        for position in positions:
            if isinstance(part, Loop):
                found = list(self._in_loop(part, position, mask, after))
                # What only the condition of a loop reads decides how many steps it takes.
                if not found and part.node.primitive == "while":
                    found = [Block(part, position, "no gradient")]
                yield from found
            elif isinstance(part, Call) and not isinstance(part, CustomJVP):
                inner = part.entered
                shift = len(part.inputs) - len(inner.level.graph.jaxpr.invars)
                if position >= shift:
                    yield from self._in_frame(part, inner, position - shift, mask, after)
                else:
                    yield Block(part, position, "no gradient")
            elif position == positions[0]:  # one rule for all
                yield from self._of_rule(part, position, mask, frame, after)

    def _in_frame(self, part: Part, inner: Frame, position: int, mask, after) -> Iterator[Block]:
        variable = inner.level.graph.jaxpr.invars[position]
        outputs = inner.level.graph.jaxpr.outvars
        if not inner.level.uses(variable) and not any(v is variable for v in outputs):
            if part.node.primitive == "cond":
                yield Block(part, position + 1, "branch")
            return
        yield from self.blocks(inner, variable, mask, after)

    def _in_loop(self, loop: Loop, position: int, mask, after) -> Iterator[Block]:
        index, steps = position - loop.first, loop.steps or 0
        if index < 0:
            return
        if not steps:
            yield from after.blocks(index - loop.n, mask) if index >= loop.n else ()
            return
        carried = loop.n <= index < loop.n + loop.m
        scanned = index >= loop.n + loop.m
        chosen = [0] if carried else sorted({0, steps // 2, steps - 1})
        for step in chosen:
            inner = mask[loop.index(step)] if scanned else mask
            yield from self.blocks_of_step(loop, step, index, inner, after)

    def blocks_of_step(self, loop: Loop, step: int, index: int, mask, after) -> Iterator[Block]:
        """What blocks the gradient at an input of a loop's body."""
        if loop.arriving:
            loop.pulled(step)
        frame = loop.frame_at(step)
        variable = frame.level.graph.jaxpr.invars[index]
        yield from self.blocks(frame, variable, mask, _NextStep(self, loop, step, after))

    def _of_rule(self, part: Part, position: int, mask, frame: Frame, after) -> Iterator[Block]:
        outs, takes = part.equation.outvars, frame.takes(part.equation)
        arriving = [frame.gradients.get(v) for v in outs]
        full = [Value(random_like(v.aval)) if v in frame.reached else None for v in outs]
        if not takes[position] or all(x is None for x in full):
            yield Block(part, position, "no gradient")
            return
        if any(x is None and _is_used(frame, v) for x, v in zip(full, outs, strict=True)):
            yield Block(part, position, "no gradient")
        op = rule_applied(part, full, takes)
        target = op.targets.index(position)
        if op.outputs()[target].array is None:
            yield Block(part, position, "no gradient")
            return
        handed_on = _handed_on(op, target, mask, full)
        yield from self._sorted_out(part, position, arriving, handed_on, after)

    def _sorted_out(self, part, position, arriving, handed_on, after) -> Iterator[Block]:
        """Which entries of the gradients that arrive end here, and which were zero already."""
        if handed_on is None:
            idle = all(g is None or not np.any(np.asarray(g.array != 0)) for g in arriving)
            yield Block(part, position, "zero slope", idle)
            for j, v in enumerate(part.equation.outvars if idle else ()):
                yield from after.blocks(j, np.ones(v.aval.shape, bool))
            return
        for j, (g, passing) in enumerate(zip(arriving, handed_on, strict=True)):
            if passing is None:
                continue
            there = np.zeros_like(passing) if g is None else np.asarray(g.array != 0)
            if np.any(there & passing):
                yield Block(part, position, "underflow")
            elif np.any(there):
                yield Block(part, position, "zero slope")
            if np.any(passing & ~there):
                yield from after.blocks(j, passing & ~there)


class _Outside:
    """Where outputs of a graph go: out of the function, with the gradient that was given there."""

    def __init__(self, search: Search, g: Sequence[Value | None]):
        self.search, self.g = search, g

    def blocks(self, j: int, mask: np.ndarray) -> Iterator[Block]:
        """What blocks the gradient at an output; nothing does at the function's own."""
        yield from ()


class _After(_Outside):
    """Where they go: to the outputs of a call, and on to what reads those."""

    def __init__(self, search: Search, frame: Frame, part: Part, outside: _Outside):
        self.search, self.frame, self.part, self.outside = search, frame, part, outside

    def blocks(self, j: int, mask: np.ndarray) -> Iterator[Block]:
        variable = self.part.equation.outvars[j]
        yield from self.search.blocks(self.frame, variable, mask, self.outside)


class _NextStep(_Outside):
    """Where they go: around the loop, and out of it."""

    def __init__(self, search: Search, loop: Loop, step: int, after: _Outside):
        self.search, self.loop, self.step, self.after = search, loop, step, after

    def blocks(self, j: int, mask: np.ndarray) -> Iterator[Block]:
        loop, following = self.loop, self.step + 1
        if j >= loop.m:
            rows = np.zeros((loop.steps or 0, *mask.shape), bool)
            rows[loop.index(self.step)] = mask
            yield from self.after.blocks(j, rows)
        elif following == loop.steps:
            yield from self.after.blocks(j, mask)
        else:
            step = loop.n + j
            yield from self.search.blocks_of_step(loop, following, step, mask, self.after)


def _is_used(frame: Frame, variable: Any) -> bool:
    outputs = frame.level.graph.jaxpr.outvars
    return bool(frame.level.uses(variable)) or any(v is variable for v in outputs)


def random_like(x: Any) -> Any:
    """Numbers of either sign of about 1, the same at each call."""
    draw = np.random.default_rng(0)
    numbers = draw.uniform(0.5, 1.5, x.shape) * draw.choice([-1.0, 1.0], x.shape)
    return jnp.asarray(numbers, x.dtype)


def _handed_on(op: Operation, target: int, mask: np.ndarray, full: Sequence[Any]):
    """For each gradient that may arrive, the entries that reach the mask; `None` if none does."""
    given = [value.array for value in full if value is not None]
    others = [value.array for value in op.inputs[len(given) :]]

    def reached(*g):
        return jnp.where(mask, op.run(*g, *others)[target], 0)

    out, pull_back = jax.vjp(reached, *given)
    if not np.any(np.asarray(out != 0)):
        return None
    passing = iter([np.asarray(x != 0) for x in pull_back(random_like(out))])
    return [None if value is None else next(passing) for value in full]


def blocks_of(frame: Frame, position: int) -> list[Block]:
    """What blocks the gradient at an input of a function, the last in the program first."""
    search = Search()
    variable = frame.level.graph.jaxpr.invars[position]
    mask = np.ones(variable.aval.shape, bool)
    found = list(search.blocks(frame, variable, mask, _Outside(search, [])))
    found.sort(key=lambda block: block.part.place().iteration)
    return sorted(found, key=lambda block: block.rank, reverse=True)
