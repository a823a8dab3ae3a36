"""Loops, iteration by iteration: a scan or a while loop at concrete values.

All that goes round a loop is kept, before each iteration on the way forward and backward. A short
loop is recorded as it runs. A long one is run by one compiled function for all iterations, and an
iteration is recorded only when somebody asks what happened in it, again from what went into it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from fungrad import _jax, passes
from fungrad.inspect.diagnosis.record import Frame, Gradients, Part
from fungrad.inspect.diagnosis.values import Entry, Gathered, Place, Value, not_finite
from fungrad.rules.control import body_activity

SHORT = 2000
"""Up to so many operations a loop is recorded as it runs; more are worth a compilation."""


class Loop(Part):
    """A loop with `n` constants, `m` parts of the carry, and xs; its steps are in running order."""

    def run(self) -> list[Value]:
        equation, params = self.equation, self.equation.params
        if equation.primitive.name == "scan":
            consts, carry, xs = _jax.scan_operands(params, self.inputs)
            self.body, self.first = self.inside[0], 0
            self.steps: int | None = params["length"]
        else:
            self.first = params["cond_nconsts"]
            consts = self.inputs[self.first :][: params["body_nconsts"]]
            carry, xs = self.inputs[self.first + len(consts) :], []
            graphs = [name for name in params if name in ("cond_jaxpr", "body_jaxpr")]
            self.body = self.inside[graphs.index("body_jaxpr")]
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
        return Value(array, same_as=lambda: self.frame_at(step).outputs[i])

    def _continues(self) -> bool:
        graph = _jax.close(self.equation.params["cond_jaxpr"])
        values = [*self.inputs[: self.first], *self.states[-1]]
        return bool(_jax.evaluate(graph, [value.array for value in values])[0])

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
        steps = self.steps or 0
        self.arriving = [[] for _ in range(steps)]
        self.left = [[] for _ in range(steps)]
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
        """The gradients at the inputs of the body at a step."""
        if self.is_short:
            return self.pulled(step)
        brings = tuple(entry is not None for entry in self.arriving[step])
        inputs = [value.array for value in self._inputs(step)]
        given = [entry.array for entry in self.arriving[step] if entry is not None]
        arrays = self._retreat(brings)(inputs, given)
        return [
            None if x is None else Value(x, same_as=self._later_gradient(step, i))
            for i, x in enumerate(arrays)
        ]

    def _later_gradient(self, step: int, i: int) -> Callable[[], Any]:
        return lambda: self.pulled(step)[i]

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

            def backward(inputs, given):
                record, entries = passes.forward(graph, inputs, steps), iter(given)
                g = [next(entries) if b else None for b in brings]
                answers = iter(passes.backward(graph, steps, record, g, self.active))
                return [next(answers) if a else None for a in self.active]

            return compiled(backward)

        return of

    def _sum(self, i: int) -> Value | None:
        """The gradient at a constant, the sum of those of all steps."""
        terms = [term for row in self.left if (term := row[i]) is not None]
        if not terms:
            return None
        total = terms[-1].array
        for term in terms[-2::-1]:
            total = _jax.add(total, term.array)

        def origin(entry: Entry):
            for term in terms:
                if not_finite(term.array)[entry]:
                    return term, entry
            return None

        op = Gathered(self.place(is_backward=True), [], lambda: [total], origin)
        return Value(total, op)


def _row(x: Value, index: int, place: Place) -> Value:
    """x[index]"""
    op = Gathered(place, [x], lambda a: [a[index]], lambda entry: (x, (index, *entry)))
    return op.outputs()[0]


def compiled(fun: Callable[..., Any]) -> Callable[..., Any]:
    """One program, in which half precision stays half precision."""
    return jax.jit(fun, compiler_options={"xla_allow_excess_precision": False})
