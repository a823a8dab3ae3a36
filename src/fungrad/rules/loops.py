"""While loops, whose number of steps is not known before they run.

One step is c ↦ f(w, c), with constants w and the carry c; N steps are taken. The gradient goes back
over the same steps, last one first, and reads what each of them had before it, c₀ … c_{N−1}:

    g_c = g_c' · ∂f/∂c        g_w += g_c' · ∂f/∂w

As N is not known, the forward loop cannot save that of every step. It keeps some states
(checkpoints.py), and the backward pass runs the loop again from there: step by step up to the unit
of steps that comes last, then through that unit with the forward half of f, which saves what the
backward half reads. That is the tape, one entry per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import compress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from fungrad import _jax, saving
from fungrad.passes import Settings
from fungrad.rulebook import CallRule, Halves
from fungrad.rules import checkpoints
from fungrad.rules.control import Mask, body_activity, body_wanted, built
from fungrad.rules.effects import refuse_effects, refuse_references, without_prints

Array = jax.Array

# --- Loops under vmap -------------------------------------------------------------------------
#
# Under `jax.vmap` each example has its own number of steps, and a loop runs as long as any example
# wants it to; of the others, all that is carried is put back after each step. That costs a pass
# over everything: for one state little, for the slots and the tape too much. So the loops that
# carry those run for all examples alike, and what must not change is held back here.


@custom_vmap
def _most(n: Array) -> Array:
    """n; under vmap, the largest n of the batch, as a value that is not batched."""
    return n


@_most.def_vmap
def _(size, batched, n):
    return _most(jnp.max(n, axis=0) if batched[0] else n), False


def choose(which: Array, new: Sequence[Array], old: Sequence[Array]) -> list[Array]:
    """The new values of the examples `which`; its axes are the leading ones of the values."""

    def of_one(a, b):
        shape = which.shape + (1,) * (a.ndim - which.ndim)
        return lax.select(jnp.broadcast_to(which.reshape(shape), a.shape), a, b)

    return [of_one(a, b) for a, b in zip(new, old, strict=True)]


def divided(params: dict[str, Any], of_graphs: Sequence[Any]) -> tuple[Any, Any]:
    """What belongs to a loop's condition and what to its body, of one for each of its graphs."""
    names = [name for name in params if name in ("cond_jaxpr", "body_jaxpr")]
    of = dict(zip(names, of_graphs, strict=True))
    return of["cond_jaxpr"], of["body_jaxpr"]


# --- The rule ---------------------------------------------------------------------------------


class _While:
    """The two halves of a while loop.

    The operands are `k` constants of the condition, `n` of the body, and the carry. `state` are the
    parts of the carry that the backward pass reads, and those that they are computed from. The
    condition may be that of many examples at once, of a loop under vmap: then so is the count.
    """

    def __init__(self, equation: Any, active: Sequence[bool], wanted: Sequence[bool], settings):
        params = equation.params
        self.k, self.n = params["cond_nconsts"], params["body_nconsts"]
        self.condition = _jax.close(params["cond_jaxpr"])
        self.body = _jax.close(params["body_jaxpr"])
        self.types = self.body.in_avals
        self.capacity = checkpoints.capacity(settings.save)
        settings = settings.within()  # the loop carries values, known or not
        quiet, n, m = without_prints(self.body), self.n, len(wanted)
        carry = slice(n, n + m)
        self.active, _ = body_activity(quiet, tuple(active[self.k :]), carry, settings)
        self.wanted = body_wanted(quiet, self.active, tuple(wanted), carry, settings)
        self.apart, self.pvary = self._axes_apart(), settings.rules["pvary"]
        if self.apart:
            rules = settings.rules.replace({"pvary": _pvary_within(self.apart)})
            settings = settings._replace(rules=rules)
        invariant = (True,) * n + (False,) * m
        stacked = (False,) * n + (True,) * m
        masks = self.active, self.wanted, (True,) * m
        cut = saving.split(quiet, *masks, settings, invariant, stacked, apart=True)
        self.halves = cut.halves(self.active, self.wanted, _jax.evaluate, _jax.evaluate)
        self.free = cut.free
        self.looped = [i for i in range(m) if self.wanted[i]]
        self.summed = [i for i in range(n) if self.active[i]]
        self._divide(equation, m)

    def _axes_apart(self) -> tuple[str, ...]:
        """In shard_map: the mesh axes along which devices may take different numbers of steps."""
        axes = self.condition.out_avals[0].mat.varying
        carry = [v.aval for v, w in zip(self.body.jaxpr.outvars, self.wanted, strict=True) if w]
        met = _jax.is_collective(self.body) or any(not axes <= t.mat.varying for t in carry)
        return () if met else tuple(sorted(axes))

    def _divide(self, equation: Any, m: int) -> None:
        """Find the state, and the two functions that compute the next one: with a tape, without.

        What is state is a fixed point: the backward half and the tape read some of it, and that is
        computed from more.
        """

        def step(*values):
            outputs, saved = self.halves.forward(*values)
            return [*outputs, *saved[len(self.free) :]]

        n, whole = self.n, _jax.trace(step, self.types)
        refuse_effects(whole, equation)
        taped = whole.out_avals[m:]
        state = [n + i in self.free for i in range(m)]
        while True:
            self.replay, used = _narrowed(whole, [*state, *(True for _ in taped)])
            grown = [a or b for a, b in zip(state, used[n:], strict=True)]
            if grown == state:
                break
            state = grown
        self.advance, _ = _narrowed(whole, [*state, *(False for _ in taped)])
        self.state = [i for i in range(m) if state[i]]
        self.consts = [i for i in range(n) if used[i] or i in self.free]
        self.again = [i for i in self.free if i >= n]
        self.taped = [*(self.types[i] for i in self.again), *taped]

    def _inputs(self, consts: Sequence[Array], state: Sequence[Array]) -> list[Any]:
        """The inputs of the body; `None` for those that a replay does not read."""
        values = dict(zip(self.consts, consts, strict=True))
        values.update(zip((self.n + i for i in self.state), state, strict=True))
        return [values.get(i) for i in range(len(self.types))]

    # Forward

    def forward(self, *inputs):
        inputs, (slots, unit) = _jax.filled(inputs), self.capacity
        known, (consts, carry) = inputs[: self.k], self._halved(inputs[self.k :])

        def test(carry):
            return _jax.evaluate(self.condition, [*known, *carry])[0]

        def step(run):
            j, count, going, carry = run
            new = _jax.evaluate(self.body, [*consts, *carry])
            new = choose(going, new, carry) if going.ndim else new
            return j + 1, count + going.astype(np.int32), test(new), new

        def of_unit(run):
            i, stride, kept, count, going, carry = run
            stride, usable = checkpoints.make_room(kept.at, i, stride, self.capacity.ahead)
            kept = checkpoints.put(kept, usable, i, [carry[p] for p in self.state])
            run = lax.while_loop(
                lambda run: (run[0] < unit) & jnp.any(run[2]), step, (zero, count, going, carry)
            )
            return i + 1, stride, kept, *run[1:]

        going = test(carry)
        count = going.astype(np.int32) * 0
        zero = _most(jnp.max(count))
        free = _jax.varying_as(jnp.full(slots, -1, np.int32), _jax.type_of(zero))
        types = [self.types[self.n + i] for i in self.state]
        run = (
            zero,
            zero + 1,
            checkpoints.Slots(free, checkpoints.stacks(slots + 1, types, zero)),
            count,
            going,
            carry,
        )
        run = lax.while_loop(lambda run: _most(jnp.any(run[4])), of_unit, run)
        units, _, kept, count, _, carry = run
        return carry, [*(consts[i] for i in self.consts), units, count, kept.at, *kept.states]

    def _halved(self, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        return list(values[: self.n]), list(values[self.n :])

    # Backward

    def backward(self, saved, g):
        size, (slots, unit) = len(self.consts), self.capacity
        consts, (units, count, at), states = saved[:size], saved[size:][:3], saved[size + 3 :]
        end, zero = _most(jnp.max(count)), units * 0
        first = checkpoints.read(states, lax.argmax(at == 0, 0, np.int32))
        carried = [built(g[i], self.types[self.n + i]) for i in self.looped]
        sums = [_jax.zeros(self.types[i]) for i in self.summed]

        def advance(state, start, stop):
            """The state before step `stop`, for the one before step `start`."""

            def step(run):
                i, state = run
                new = self.advance(self._inputs(consts, state))
                return i + 1, choose(i < count, new, state) if count.ndim else new

            stop = jnp.minimum(stop, jnp.max(count))
            return lax.while_loop(lambda run: run[0] < stop, step, (start, state))[1]

        def approach(run):
            i, last, kept, state = run
            free = kept.at < 0
            after = i + checkpoints.distance(last + 1 - i, jnp.sum(free, dtype=np.int32), slots)
            state = advance(state, i * unit, after * unit)
            return after, last, checkpoints.put(kept, free, after, state), state

        def record(run):
            i, start, state, tape = run
            # An example at its end goes over its first step again, whose values are sound.
            state = choose(start + i < count, state, first)
            answers = self.replay(self._inputs(consts, state))
            values = dict(zip((self.n + p for p in self.state), state, strict=True))
            saved = [*(values[p] for p in self.again), *answers[len(state) :]]
            return i + 1, start, answers[: len(state)], checkpoints.write(tape, i, saved)

        def go_back(run):
            i, start, gradients, tape = run
            live = start + i - 1 < count
            gradients = self._step_back(live, consts, checkpoints.read(tape, i - 1), gradients)
            return i - 1, start, gradients, tape

        def of_unit(run):
            last, kept, gradients = run
            last = last - 1
            top = lax.argmax(kept.at, 0, np.int32)
            (i,), state = checkpoints.read([kept.at], top), checkpoints.read(kept.states, top)
            if self.state:
                run = (i, last, kept, state)
                _, _, kept, state = lax.while_loop(lambda run: run[0] < run[1], approach, run)
            steps, start = jnp.minimum(unit, end - last * unit), last * unit
            run = (zero, start, state, checkpoints.stacks(unit, self.taped, zero))
            *_, tape = lax.while_loop(lambda run: run[0] < steps, record, run)
            run = (steps, start, gradients, tape)
            *_, gradients, _ = lax.while_loop(lambda run: run[0] > 0, go_back, run)
            return last, kept._replace(at=jnp.where(kept.at == last, -1, kept.at)), gradients

        if self.apart:
            sums = [_jax.varying_as(x, _jax.type_of(zero)) for x in sums]
        run = (units, checkpoints.Slots(at, states), [*carried, *sums])
        *_, gradients = lax.while_loop(lambda run: run[0] > 0, of_unit, run)
        places = (*(self.n + i for i in self.looped), *self.summed)
        answers = {i: self._over_devices(g, i) for i, g in zip(places, gradients, strict=True)}
        return [None] * self.k + [answers.get(i) for i in range(len(self.types))]

    def _over_devices(self, g: Array, i: int) -> Array:
        """The gradient of a value that was the same on all devices, summed over them."""
        axes = [axis for axis in self.apart if axis not in self.types[i].mat.varying]
        return self.pvary(g, g, None, axes=tuple(axes)) if axes else g

    def _step_back(self, live: Array, consts, tape, gradients) -> list[Array]:
        """The gradients at the carry before a step, for those after it; and the sums so far."""
        n, size = self.n, len(self.again)
        read = dict(zip((*self.consts, *self.again), (*consts, *tape[:size]), strict=True))
        carried, sums = gradients[: len(self.looped)], gradients[len(self.looped) :]
        arriving = choose(live, carried, [lax.full_like(x, 0) for x in carried])
        g = dict(zip(self.looped, arriving, strict=True))
        g_in = self.halves.backward(
            [*(read[i] for i in self.free), *tape[size:]],
            [g.get(i) for i in range(len(self.wanted))],
        )
        new = [built(g_in[n + i], self.types[n + i]) for i in self.looped]
        new = [_jax.moved_to(x, _jax.type_of(y)) for x, y in zip(new, carried, strict=True)]
        grown = [
            s if g_in[i] is None else _jax.add(s, g_in[i])
            for i, s in zip(self.summed, sums, strict=True)
        ]
        return [*choose(live, new, carried), *(grown if live.ndim else choose(live, grown, sums))]


@cache
def _pvary_within(apart: tuple[str, ...]) -> Any:
    """The rule of pvary within a loop whose devices do not go in step, and so must not meet there.

    What it would sum over them at each step is summed once, after the loop.
    """

    def pvary(g, z, x, *, axes):
        """z = x, on each device        ∂z/∂x = I: g is summed over the other axes alone"""
        rest = tuple(axis for axis in axes if axis not in apart)
        return lax.psum(g, rest) if rest else g

    return pvary


def _narrowed(graph: Any, asked: Sequence[bool]) -> tuple[Any, list[bool]]:
    """The function of the graph's inputs to those outputs alone; and which inputs that reads."""
    jaxpr, info = graph.jaxpr, graph.jaxpr.debug_info
    constants = dict(zip(jaxpr.constvars, graph.consts, strict=True))
    outputs = list(compress(jaxpr.outvars, asked))
    some = _jax.graph_of(jaxpr.invars, outputs, jaxpr.eqns, constants, info)
    variables, outputs, equations = _jax.without_dead_code(some)
    n = len(some.consts)
    constants = {v: c for v, c in zip(variables[:n], some.consts, strict=True) if v is not None}
    inputs = [v for v in variables[n:] if v is not None]
    live = _jax.graph_of(inputs, outputs, equations, constants, info)
    used = [v is not None for v in variables[n:]]
    return lambda values: _jax.evaluate(live, list(compress(values, used))), used


def _while_activity(equation: Any, active: Sequence[bool], settings: Settings) -> Mask:
    params = equation.params
    body = _jax.close(params["body_jaxpr"])
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    carry = slice(second - first, len(active) - first)
    inputs, _ = body_activity(body, tuple(active[first:]), carry, settings)
    return (*inputs[carry], *active[:first], *inputs)


def _split_while(equation, active, wanted, settings) -> Halves:
    """c' = while(f)(w, c)        ∂c'/∂(w, c) step by step, last step first, from states replayed"""
    written = any(
        a and _jax.is_reference_type(v.aval) for a, v in zip(active, equation.invars, strict=True)
    )
    if any(wanted) or written:
        refuse_references(equation)
        loop = _While(equation, active, wanted, settings)
        return Halves(loop.forward, loop.backward)

    def forward(*inputs):
        return _jax.bind(equation, _jax.filled(inputs)), []

    return Halves(forward, lambda saved, g: [None] * len(active))


while_loop = CallRule(
    "while",
    _split_while,
    _while_activity,
    example=lambda draw: (
        lambda w, c: lax.while_loop(lambda c: jnp.sum(c) < 9, lambda c: c + 1 + jnp.sin(w * c), c),
        draw.uniform(3),
        draw.positive(3),
    ),
)
