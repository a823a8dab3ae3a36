"""Loops, iteration by iteration: a scan or a while loop at concrete values.

All that goes round a loop is kept, before each iteration on the way forward and backward. A short
loop is recorded as it runs. A long one is run by one compiled function for all iterations, and an
iteration is recorded only when somebody asks what happened in it, again from what went into it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad import _jax, passes
from fungrad.inspect.diagnosis.levels import Level, level_inside
from fungrad.inspect.diagnosis.record import Frame, Gradients, Part
from fungrad.inspect.diagnosis.values import (
    Entry,
    Gathered,
    Place,
    Value,
    first,
    not_finite,
    with_benign,
)
from fungrad.rules.control import body_activity

SHORT = 2000
"""Up to so many operations a loop is recorded as it runs; more are worth a compilation."""


class Loop(Part):
    """A loop with `n` constants, `m` parts of the carry, and xs; its steps are in running order."""

    def run(self) -> list[Value]:
        """The last carry, and what the steps returned, stacked."""
        equation, params = self.equation, self.equation.params
        if equation.primitive.name == "scan":
            consts, carry, xs = _jax.scan_operands(params, self.inputs)
            self.body, self.first = self.inside[0], 0
            self.steps: int | None = params["length"]
        else:
            count = params["cond_nconsts"]
            self.body, self.first = self._body_of_while()
            consts = self.inputs[self.first : count + params["body_nconsts"]]
            carry, xs = self.inputs[count + params["body_nconsts"] :], []
            self.steps = None
        self.consts, self.xs, self.n, self.m = consts, xs, len(consts), len(carry)
        takes = self.frame.takes(equation)[self.first :]
        circle = slice(self.n, self.n + self.m)
        settings = self.where.settings
        self.active, _ = body_activity(self.body.graph, takes, circle, settings)
        self.kept: dict[int, Frame] = {}
        self.recent = lru_cache(4)(self._record)
        self.states, self.ys = [list(carry)], []
        self.arriving: list[Gradients] = []
        self.left: list[Gradients] = []
        self._go_forward()
        return self._results()

    def _body_of_while(self) -> tuple[Level, int]:
        """The body of a while loop, and how many of the loop's inputs it does not read.

        Under `jax.vmap` each example goes on for as long as its own condition holds; then the body
        reads that as well, and hands on what the others carry.
        """
        params, count = self.equation.params, self.equation.params["cond_nconsts"]
        test, body = _jax.close(params["cond_jaxpr"]), _jax.close(params["body_jaxpr"])
        (going,) = test.out_avals
        if not going.shape:
            graphs = [name for name in params if name in ("cond_jaxpr", "body_jaxpr")]
            return self.inside[graphs.index("body_jaxpr")], count

        def step(*inputs):
            consts, carry = inputs[: count + params["body_nconsts"]], inputs[-len(body.out_avals) :]
            (goes_on,) = _jax.evaluate(test, [*consts[:count], *carry])
            new = _jax.evaluate(body, [*consts[count:], *carry])
            axes = tuple(range(goes_on.ndim))
            return [
                lax.select(lax.broadcast_in_dim(goes_on, x.shape, axes), x, old)
                for x, old in zip(new, carry, strict=True)
            ]

        graph = _jax.trace(step, [v.aval for v in self.equation.invars])
        return level_inside(graph, self.node), 0

    @property
    def is_short(self) -> bool:
        return self.steps is not None and self.steps * self.body.size <= SHORT

    def index(self, step: int) -> int:
        """The iteration as it is counted: along the axis of what is scanned."""
        if self.equation.params.get("reverse") and self.steps is not None:
            return self.steps - 1 - step
        return step

    # Forward

    def _go_forward(self) -> None:
        is_scan = self.steps is not None
        while (len(self.ys) < self.steps) if is_scan else self._continues():  # type: ignore
            step = len(self.ys)
            if self.is_short:
                outputs = self.frame_at(step).outputs
            else:
                arrays = self._advance(*(value.array for value in self._inputs(step)))
                outputs = [self._later(x, step, i) for i, x in enumerate(arrays)]
            self.states.append(outputs[: self.m])
            self.ys.append(outputs[self.m :])
        self.steps = len(self.ys)

    def _later(self, array: Any, step: int, i: int) -> Value:
        def same_as(entry: Entry | None):
            if entry is None or i >= self.m:
                return self.frame_at(step).outputs[i], entry
            rows = (self.states[s][i].array for s in range(step + 1, -1, -1))
            start = step + 2 - _same_in_a_row(rows, entry)
            return (self.frame_at(start - 1).outputs if start else self.states[0])[i], entry

        return Value(array, same_as=same_as)

    def _continues(self) -> bool:
        constants = self.inputs[: self.equation.params["cond_nconsts"]]
        values = [*constants, *self.states[-1]]
        return bool(np.any(self._test(*(value.array for value in values))[0]))

    @cached_property
    def _test(self) -> Callable[..., list[Any]]:
        graph = _jax.close(self.equation.params["cond_jaxpr"])
        return compiled(lambda *arrays: _jax.evaluate(graph, arrays))

    @cached_property
    def _advance(self) -> Callable[..., list[Any]]:
        return compiled(lambda *arrays: _jax.evaluate(self.body.graph, arrays))

    def _inputs(self, step: int) -> list[Value]:
        index = self.index(step)
        return [*self.consts, *self.states[step], *(self._slice(x, index) for x in self.xs)]

    def _slice(self, x: Value, index: int) -> Value:
        return _row(x, index, self.place())

    def frame_at(self, step: int) -> Frame:
        """The recorded run of the body at a step."""
        if not self.is_short:
            return self.recent(step)
        if step not in self.kept:
            self.kept[step] = self._record(step)
        return self.kept[step]

    def _record(self, step: int) -> Frame:
        iteration = (*self.where.iteration, self.index(step))
        where = replace(self.within, iteration=iteration)
        return Frame(self.body, self._inputs(step), self.active, where)

    def _results(self) -> list[Value]:
        outputs = list(self.states[-1])
        for i, variable in enumerate(self.equation.outvars[self.m :]):
            rows = [self.ys[self.index(t)][i] for t in range(self.steps or 0)]
            outputs.append(self._stack(rows, variable.aval, self.place()))
        return outputs

    def _stack(self, rows: Sequence[Value | None], aval: Any, place: Place) -> Value:
        """Rows along a new leading axis; `None` is zero."""

        def origin(entry: Entry):
            row = rows[entry[0]]
            return None if row is None else (row, entry[1:])

        zero = jnp.zeros(aval.shape[1:], aval.dtype)
        arrays = [zero if row is None else row.array for row in rows]
        whole = jnp.stack(arrays) if arrays else jnp.zeros(aval.shape, aval.dtype)
        return Value(whole, Gathered(place, [], lambda: [whole], origin))

    # Backward

    def pull(self, g: Sequence[Value | None], takes: tuple[bool, ...]) -> Gradients:
        """Step by step, last one first."""
        steps = self.steps or 0
        self.arriving = [[] for _ in range(steps)]
        self.left = [[] for _ in range(steps)]
        self.totals: list[Any] = [None] * self.n
        self.sick: list[Sequence[Any]] = [[] for _ in range(steps)]
        state = list(g[: self.m])
        for step in reversed(range(steps)):
            index = self.index(step)
            ys = [x and _row(x, index, self.place(is_backward=True)) for x in g[self.m :]]
            self.arriving[step] = [*state, *ys]
            self.left[step] = self._back(step)
            state = self.left[step][self.n : self.n + self.m]
        sums = [self._sum(i) for i in range(self.n)]
        stacks = []
        for i, x in enumerate(self.xs, start=self.n + self.m):
            rows = [self.left[self.index(t)][i] for t in range(steps)]
            there = any(row is not None for row in rows)
            place = self.place(is_backward=True)
            stacks.append(self._stack(rows, _jax.type_of(x.array), place) if there else None)
        return [None] * self.first + sums + state + stacks

    def _back(self, step: int) -> Gradients:
        """The gradients at the inputs of the body at a step; those at the constants are added up.

        A long loop keeps of the latter only whether there was anything that is not finite.
        """
        if self.is_short:
            gradients = self.pulled(step)
            arrays = [None if x is None else x.array for x in gradients[: self.n]]
            self.totals = _sums(self.totals, arrays)
            self.sick[step] = _are_sick(arrays)
            return gradients
        brings = tuple(entry is not None for entry in self.arriving[step])
        inputs = [value.array for value in self._inputs(step)]
        given = [entry.array for entry in self.arriving[step] if entry is not None]
        answers = self._retreat(brings)(inputs, given, self.totals)
        self.totals, self.sick[step], arrays = answers
        return [None] * self.n + [
            None if x is None else self._later_gradient(x, step, i)
            for i, x in enumerate(arrays, start=self.n)
        ]

    def _later_gradient(self, array: Any, step: int, i: int) -> Value:
        def same_as(entry: Entry | None):
            start = step if entry is None or i >= self.n + self.m else self._origin(step, i, entry)
            found: Any = self.pulled(start)[i]
            if entry is not None and not not_finite(found.array)[entry]:
                entry = first(not_finite(found.array))
            return found, entry

        return Value(array, same_as=same_as)

    def _origin(self, step: int, i: int, entry: Entry) -> int:
        """The first step from here on that makes such a gradient of one that is finite."""
        born = (s for s in range(step, len(self.births)) if self.births[s][i - self.n])
        if (start := next(born, None)) is not None:
            return start
        rows = (row[i] and row[i].array for row in self.left[step:])  # type: ignore[union-attr]
        return step - 1 + _same_in_a_row(rows, entry)

    @cached_property
    def births(self) -> list[list[bool]]:
        """For each step, where its gradients at the carry are not finite if those given are."""
        found = []
        for step, arriving in enumerate(self.arriving):
            brings = tuple(entry is not None for entry in arriving)
            arrays = [entry.array for entry in arriving if entry is not None]
            given = [with_benign(x, np.ones(np.shape(x), bool)) for x in arrays]
            inputs = [value.array for value in self._inputs(step)]
            *_, gradients = self._retreat(brings)(inputs, given, [None] * self.n)
            found.append([bool(sick) for sick in _are_sick(gradients[: self.m])])
        return found

    def pulled(self, step: int) -> Gradients:
        """The same, recorded."""
        frame = self.frame_at(step)
        return frame.pull(self.arriving[step]) if frame.pulled is None else frame.pulled

    @cached_property
    def _retreat(self) -> Callable[[tuple[bool, ...]], Callable[..., Any]]:
        graph, settings = self.body.graph, self.where.settings

        @lru_cache
        def of(brings):
            steps = passes.plan(graph, self.active, brings, settings)

            def backward(inputs, given, totals):
                record, entries = passes.forward(graph, inputs, steps), iter(given)
                g = [next(entries) if b else None for b in brings]
                answers = iter(passes.backward(graph, steps, record, g, self.active))
                arrays = [next(answers) if a else None for a in self.active]
                consts = arrays[: self.n]
                return _sums(totals, consts), _are_sick(consts), arrays[self.n :]

            return compiled(backward)

        return of

    def _sum(self, i: int) -> Value | None:
        """The gradient at a constant, the sum of those of all steps."""
        total = self.totals[i]
        if total is None:
            return None

        def origin(entry: Entry):
            for step, are_sick in enumerate(self.sick):
                term = self.pulled(step)[i] if are_sick[i] else None
                if term is not None and not_finite(term.array)[entry]:
                    return term, entry
            return None

        op = Gathered(self.place(is_backward=True), [], lambda: [total], origin)
        return Value(total, op)


def _same_in_a_row(rows: Iterable[Any], entry: Entry) -> int:
    """In how many arrays, from the first on, an entry is what it is in the first: NaN, ∞ or −∞."""
    numbers = (np.nan if row is None else np.asarray(row)[entry] for row in rows)
    start = next(numbers)
    same = itertools.takewhile(lambda x: x == start or (x != x and start != start), numbers)
    return 1 + sum(1 for _ in same)


def _sums(totals: Sequence[Any], terms: Sequence[Any]) -> list[Any]:
    """Sums of arrays, of which `None` is zero."""
    pairs = zip(totals, terms, strict=True)
    return [x if y is None else y if x is None else _jax.add(x, y) for x, y in pairs]


def _are_sick(arrays: Sequence[Any]) -> list[Any]:
    """Which arrays hold something that is not finite."""
    return [False if x is None else ~jnp.all(jnp.isfinite(x)) for x in arrays]


def _row(x: Value, index: int, place: Place) -> Value:
    """x[index]"""
    op = Gathered(place, [x], lambda a: [a[index]], lambda entry: (x, (index, *entry)))
    return op.outputs()[0]


def compiled(fun: Callable[..., Any]) -> Callable[..., Any]:
    """One program, in which half precision stays half precision."""
    return jax.jit(fun, compiler_options={"xla_allow_excess_precision": False})
