"""Control flow: loops and branches. Their bodies are joined and cut (saving.py)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import jax.numpy as jnp
from jax import lax

from fungrad import _jax, passes, saving
from fungrad.costs import NEVER, Effort
from fungrad.passes import Settings
from fungrad.rulebook import CallRule, Halves
from fungrad.rules.calls import passed_through
from fungrad.rules.nested import nested

Mask = tuple[bool, ...]


# --- scan -------------------------------------------------------------------------------------
#
# One step of the loop is (c, x) ↦ (c', y) with constants w. The backward pass is a scan in the
# other direction over the saved values of each step, whose carry is the gradient at c and, for the
# constants, the sum so far:
#
#     g_c = g_c' · ∂c'/∂c + g_y · ∂y/∂c        g_x likewise
#     g_w += g_c' · ∂c'/∂w + g_y · ∂y/∂w


def body_activity(body: Any, active: Mask, carry: slice, settings: Settings) -> tuple[Mask, Mask]:
    """Which inputs and outputs of a loop's body are ever active: a fixed point.

    What goes round the loop is the carry, and references that the body writes to.
    """
    size = len(body.jaxpr.outvars)
    while True:
        reached = passes.reach(body, active, settings)
        outputs, grown = reached[:size], list(reached[size:])
        carried = zip(active[carry], outputs, strict=False)
        grown[carry] = [a or b for a, b in carried]
        if tuple(grown) == active:
            return active, outputs
        active = tuple(grown)


def _carry_of_scan(equation: Any) -> slice:
    consts, carry, _ = _jax.scan_operands(equation.params, equation.invars)
    return slice(len(consts), len(consts) + len(carry))


def _scan_activity(equation: Any, active: Sequence[bool], settings: Settings) -> Mask:
    body, carry = _jax.close(equation.params["jaxpr"]), _carry_of_scan(equation)
    inputs, outputs = body_activity(body, tuple(active), carry, settings)
    # A loop of no steps hands the carry on, whatever its body would have made of it.
    steps = equation.params["length"]
    return (
        *(outputs if steps else (*inputs[carry], *outputs[carry.stop - carry.start :])),
        *inputs,
    )


def body_wanted(body: Any, active: Mask, wanted: Mask, carry: slice, settings: Settings) -> Mask:
    """Where gradients arrive at the body's outputs once they have gone round the loop."""
    size = carry.stop - carry.start
    while True:
        received = passes.receivers(body, active, wanted, settings)[carry]
        grown = tuple(a or b for a, b in zip(wanted[:size], received, strict=True)) + wanted[size:]
        if grown == wanted:
            return wanted
        wanted = grown


def _split_scan(equation, active, wanted, settings) -> Halves:
    """c', y = scan(f)(w, c, x)        ∂(c', y)/∂(w, c, x) step by step, last step first"""
    params = equation.params
    settings = settings.within()  # the loop carries values, known or not
    levels = getattr(settings.save, "levels", 1)
    if levels > 1 and params["length"] >= 4 and not equation.effects:
        inside = settings.save._replace(levels=levels - 1)
        keeping = settings._replace(save=Effort(NEVER, operands=True, dear=True, inside=inside))
        return passed_through(nested(equation, levels), active, wanted, keeping)
    body = _jax.close(params["jaxpr"])
    carry = _carry_of_scan(equation)
    n, m = carry.start, carry.stop - carry.start
    inside, _ = body_activity(body, tuple(active), carry, settings)
    asked = body_wanted(body, inside, tuple(wanted), carry, settings)
    invariant = (True,) * n + (False,) * (len(active) - n)
    stacked = (False,) * n + (True,) * m + (False,) * (len(active) - n - m)
    masks = inside, asked, (True,) * len(asked)
    if settings.save is None or isinstance(settings.save, Effort):
        effort = settings.save or Effort()
        steps = effort.steps * max(params["length"], 1)
        settings = settings._replace(save=effort._replace(steps=steps))
    cut = saving.split(body, *masks, settings, invariant, stacked, apart=True)
    loop = _Loop(params, body, cut, inside, asked, n, m)

    def backward(saved, g, *references):
        gradients = loop.backward(saved, g, references)
        return [x if a else None for x, a in zip(gradients, active, strict=True)]

    return Halves(loop.forward, backward)


class _Loop:
    """The two scans made of a body's two halves.

    The body's inputs are `n` constants, `m` parts of the carry, and slices of xs; its outputs are
    the new carry, then slices of ys. `active` and `wanted` are the masks over them. What the
    backward half reads again is of three kinds: constants stay outside of the loop, the carry
    before each step must be stacked, and xs are at hand. References are constants or xs, and the
    gradients at what they hold stay where they are.
    """

    def __init__(self, params, body, cut: saving.Cut, active: Mask, wanted: Mask, n: int, m: int):
        self.params, self.cut, self.active, self.wanted, self.n = params, cut, active, wanted, n
        self.halves = cut.halves(active, wanted, _jax.evaluate, _jax.evaluate)
        self.types, self.input_types = [v.aval for v in body.jaxpr.invars], _jax.input_types(body)
        self.outputs = [v.aval for v in body.jaxpr.outvars]
        self.consts = [i for i in cut.free if i < n]
        self.carry = [i for i in cut.free if n <= i < n + m]
        self.xs = [i for i in cut.free if i >= n + m]
        # Where the backward loop sums, carries and stacks gradients.
        held = [a and _jax.is_reference_type(t) for a, t in zip(active, self.types, strict=True)]
        self.held = [i for i in range(n) if held[i]]
        self.held_slices = [i for i in range(n, len(active)) if held[i]]
        self.summed = [i for i in range(n) if active[i] and not held[i]]
        self.looped = [i for i in range(m) if wanted[i]]
        self.mapped = [i for i in range(n + m, len(active)) if active[i] and not held[i]]
        self.arriving = [i for i in range(m, len(wanted)) if wanted[i]]

    def forward(self, *inputs):
        inputs = _jax.filled(inputs)

        def step(*values):
            outputs, saved = self.halves.forward(*values)
            return [*outputs, *saved[len(self.cut.free) :], *(values[i] for i in self.carry)]

        graph = _jax.trace(step, self.input_types)
        operands = _jax.scan_operands(self.params, inputs)
        answers = _jax.call_scan(self.params, graph, operands, self.params["reverse"])
        size = len(self.outputs)
        return answers[:size], [*(inputs[i] for i in (*self.consts, *self.xs)), *answers[size:]]

    def backward(self, saved, g, references):
        size, own = len(self.consts), len(self.held)
        length = self.params["length"]
        start = [_jax.zeros(self.types[i]) for i in self.summed]
        start += [built(g[i], self.outputs[i]) for i in self.looped]
        stacks = [_jax.stacked_type(self.outputs[i], length) for i in self.arriving]
        arriving = [built(g[i], aval) for i, aval in zip(self.arriving, stacks, strict=True)]
        consts = [*saved[:size], *references[:own]]
        operands = _jax.ScanOperands(consts, start, [*saved[size:], *arriving, *references[own:]])
        types = [_jax.type_now(x) for x in (*operands.consts, *operands.carry)]
        types += [_jax.slice_type(_jax.type_of(x)) for x in operands.xs]
        graph = _jax.trace(self.step_back, types)
        answers = _jax.call_scan(self.params, graph, operands, not self.params["reverse"])
        gradients: list[Any] = [None] * len(self.types)
        places = (*self.summed, *(self.n + i for i in self.looped), *self.mapped)
        for place, answer in zip(places, answers, strict=True):
            gradients[place] = answer
        return gradients

    def step_back(self, *values):
        """One step of the backward loop: sums, g at the carry after the step -> before it."""
        stacked = range(len(self.cut.saved))
        consts, held, sums, g_carry, xs, saved, carry, g_y, held_slices = deal(
            values,
            *(self.consts, self.held, self.summed, self.looped),
            *(self.xs, stacked, self.carry, self.arriving, self.held_slices),
        )
        read, g_out = consts | xs | carry, g_carry | g_y
        g_in = self.halves.backward(
            [*(read[i] for i in self.cut.free), *saved.values()],
            [g_out.get(i) for i in range(len(self.wanted))],
            *(held | held_slices).values(),
        )
        grown = [s if g_in[i] is None else _jax.add(s, g_in[i]) for i, s in sums.items()]

        def at(i):
            return built(g_in[i], self.types[i])

        passed = [_jax.moved_to(at(self.n + i), _jax.type_of(g)) for i, g in g_carry.items()]
        return [*grown, *passed, *map(at, self.mapped)]


def deal(values: Sequence[Any], *groups: Iterable[int]) -> list[dict[int, Any]]:
    """Divide `values` among groups of places, in order."""
    given = iter(values)
    return [{place: next(given) for place in group} for group in groups]


def built(g: Any, aval: Any) -> Any:
    """The gradient at a value of a type; a zero that was never built is built now."""
    return _jax.zeros(aval) if g is None else g


scan = CallRule(
    "scan",
    _split_scan,
    _scan_activity,
    example=lambda draw: (
        lambda w, c, x: lax.scan(lambda c, x: (jnp.tanh(w * c + x), c * x), c, x),
        draw.uniform(),
        draw.uniform(2),
        draw.uniform(4, 2),
    ),
)


# --- cond and switch --------------------------------------------------------------------------


def _cond_activity(equation: Any, active: Sequence[bool], settings: Settings) -> Mask:
    branches = [_jax.close(branch) for branch in equation.params["branches"]]
    masks = [passes.reach(branch, tuple(active[1:]), settings) for branch in branches]
    joined, size = [*map(any, zip(*masks, strict=True))], len(equation.outvars)
    return (*joined[:size], False, *joined[size:])


def _split_cond(equation, active, wanted, settings) -> Halves:
    """out = fᵢ(x)        ∂out/∂x = ∂fᵢ/∂x of the branch i that was taken

    The branches save different values; values of one type share a slot.
    """
    settings = settings.within()  # a branch returns every output, known or not
    branches = [_jax.close(branch) for branch in equation.params["branches"]]
    inside = tuple(active[1:])
    kept = (True,) * len(wanted)
    cuts = [saving.split(branch, inside, wanted, kept, settings, apart=True) for branch in branches]
    slots, seats = _share_slots([cut.saved for cut in cuts])
    types = [v.aval for v in branches[0].jaxpr.invars]
    free = sorted({i for cut in cuts for i in cut.free})
    returned = [a and not _jax.is_reference_type(t) for a, t in zip(inside, types, strict=True)]
    halves = [cut.halves(inside, wanted, _jax.evaluate, _jax.evaluate) for cut in cuts]

    def forward(index, *inputs):
        inputs = _jax.filled(inputs)

        def branch_forward(cut, half, seat):
            def run(*values):
                outputs, saved = half.forward(*values)
                held = dict(zip(seat, saved[len(cut.free) :], strict=True))
                empty = {i: _jax.filler(aval) for i, aval in enumerate(slots) if i not in held}
                return [*outputs, *((held | empty)[i] for i in range(len(slots)))]

            return _jax.trace(run, types)

        graphs = [branch_forward(*each) for each in zip(cuts, halves, seats, strict=True)]
        answers = _call(equation.params, index, graphs, inputs)
        return answers[: len(wanted)], [index, *(inputs[i] for i in free), *answers[len(wanted) :]]

    def backward(saved, g, *references):
        index, *read = saved
        arriving = {i: entry for i, entry in enumerate(g) if entry is not None}
        operands = [*read, *arriving.values(), *references]
        groups = (free, range(len(slots)), arriving, range(len(references)))

        def branch_backward(cut, half, seat):
            def run(*values):
                inputs, held, entries, own = deal(values, *groups)
                read = [*(inputs[i] for i in cut.free), *(held[i] for i in seat)]
                entries = [entries.get(i) for i in range(len(g))]
                gradients = half.backward(read, entries, *own.values())
                return [built(x, types[i]) for i, x in enumerate(gradients) if returned[i]]

            return _jax.trace(run, [_jax.type_of(x) for x in operands])

        graphs = [branch_backward(*each) for each in zip(cuts, halves, seats, strict=True)]
        answers = iter(_call(equation.params, index, graphs, operands))
        return [None, *(next(answers) if r else None for r in returned)]

    return Halves(forward, backward)


def _call(params, index, branches, inputs):
    """Emit a cond; what rules in its branches close over is handed to all of them."""
    if not any(_jax.is_tracer(c) for branch in branches for c in branch.consts):
        return _jax.call_cond(params, index, branches, inputs)
    opened = [_jax.open_constants(branch) for branch in branches]
    every = [constant for _, own in opened for constant in own]
    starts = accumulate((len(own) for _, own in opened), initial=0)

    def complete(graph, own, start):
        def run(*values):
            return _jax.evaluate(graph, [*values[start : start + len(own)], *values[len(every) :]])

        return _jax.trace(run, [_jax.type_of(x) for x in (*every, *inputs)])

    graphs = [complete(*each, start) for each, start in zip(opened, starts, strict=False)]
    return _jax.call_cond(params, index, graphs, [*every, *inputs])


def _share_slots(saved: Sequence[Sequence[Any]]) -> tuple[list[Any], list[list[int]]]:
    """The types of the slots, and for each branch the slot of each of its saved values."""
    slots: list[Any] = []
    seats = []
    for types in saved:
        taken: list[int] = []
        for aval in types:
            fitting = (i for i, slot in enumerate(slots) if slot == aval and i not in taken)
            taken.append(next(fitting, len(slots)))
            if taken[-1] == len(slots):
                slots.append(aval)
        seats.append(taken)
    return slots, seats


cond = CallRule(
    "cond",
    _split_cond,
    _cond_activity,
    example=lambda draw: (
        lambda x: lax.cond(x[0] > 0, lambda x: jnp.sin(x) * x, lambda x: x * x * x, x),
        draw.uniform(3),
    ),
)
