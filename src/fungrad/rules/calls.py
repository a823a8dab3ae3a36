"""Calls: equations that hold a sub-graph to be run once. Each is joined and cut (saving.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import compress
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Var

from fungrad import _jax, passes, saving
from fungrad.passes import Settings, activity
from fungrad.rulebook import CallRule, Halves


def graph_inside(equation: Any) -> Any:
    """The sub-graph, under whichever name the primitive keeps it."""
    return _jax.subgraphs(equation)[0]


def activity_inside(equation: Any, active: Sequence[bool], settings: Settings):
    """What the sub-graph's own equations say depends on the active inputs."""
    return passes.reach(graph_inside(equation), tuple(active), settings)


def cut_of(graph, active, wanted, settings) -> saving.Cut:
    """The cut of a graph; the forward half returns every output that can be known."""
    unknown = settings.linear and activity(graph, tuple(active), settings)
    kept = tuple(not u for u in unknown) if unknown else (True,) * len(wanted)
    return saving.split(graph, tuple(active), tuple(wanted), kept, settings)


def halves_of(graph, active, wanted, settings) -> Halves:
    """The halves of an equation that does what the graph does: they are run as they are."""
    if callable(settings.save):  # a policy looks at single equations, and must see them once
        return passed_through(graph, active, wanted, settings)
    cut = cut_of(graph, active, wanted, settings)
    return cut.halves(active, wanted, _jax.evaluate, _jax.evaluate)


def _evaluate_twice(equation, active, wanted, settings) -> Halves:
    """out = f(x)        ∂out/∂x = ∂f/∂x, by the passes over f's own graph"""
    return passed_through(graph_inside(equation), active, wanted, settings)


def passed_through(graph, active, wanted, settings) -> Halves:
    """The halves of a graph that is not cut: they are part of what is around it, and its cut."""
    steps = passes.plan(graph, active, wanted, settings)
    variables: list[Any] = []

    def forward(*inputs):
        record = passes.forward(graph, inputs, steps)
        variables[:] = record.values
        return record.outputs, [list(record.values.values()), record.saved]

    def backward(saved, g, *references):
        values, inner = saved
        record = passes.Record([], dict(zip(variables, values, strict=True)), inner)
        answers = iter(passes.backward(graph, steps, record, g, active, references))
        return [next(answers) if a else None for a in active]

    return Halves(forward, backward)


# --- jit --------------------------------------------------------------------------------------

_SMALL = 32
"""As many equations as helpers such as softmax have, but no layer of a model."""


def jit_places(params: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The sharding and the layout of each input, and of each output, of a jit equation."""
    inputs = zip(params["in_shardings"], params["in_layouts"], strict=True)
    outputs = zip(params["out_shardings"], params["out_layouts"], strict=True)
    return list(inputs), list(outputs)


def _split_jit(equation, active, wanted, settings) -> Halves:
    """out = jit(f)(x)        ∂out/∂x = ∂f/∂x: each half is a jit of the same name"""
    graph = graph_inside(equation)
    inputs, outputs = jit_places(equation.params)
    placed = any(place != _jax.ANYWHERE for place in (*inputs, *outputs))
    # A policy looks at single equations, so they must be in sight; so does the minimum cut, but a
    # large graph that may be called again is better traced and cut once.
    if callable(settings.save):
        return passed_through(graph, active, wanted, settings)
    if _is_small(graph) and not placed:
        return _where_read(
            passed_through(graph, active, wanted, settings),
            lambda: _jitted(equation, graph, active, wanted, settings),
        )
    return _jitted(equation, graph, active, wanted, settings)


def _where_read(inside: Halves, called: Callable[[], Halves]) -> Halves:
    """`inside` where a graph is being read; where operations are run as they come, the call."""
    chosen: list[Halves] = []

    def forward(*inputs):
        chosen[:] = [inside if _jax.is_reading() else called()]
        return chosen[0].forward(*inputs)

    return Halves(forward, lambda saved, g, *own: chosen[0].backward(saved, g, *own))


def _jitted(equation, graph, active, wanted, settings) -> Halves:
    inputs, outputs = jit_places(equation.params)
    cut = cut_of(graph, active, wanted, settings)
    # What the author says of where an array lives holds for its gradient too.
    saved = [_jax.ANYWHERE] * len(cut.saved)
    held = [graph.jaxpr.invars.index(v) for v in passes.references(graph, active)]
    arriving = [*compress(outputs, wanted), *(inputs[i] for i in held)]
    ahead = [inputs[i] for i in cut.reads], [*compress(outputs, cut.kept), *saved]
    behind = (
        [*(inputs[i] for i in cut.free), *saved, *(arriving[i] for i in cut.takes)],
        list(compress(compress(inputs, active), cut.gives)),
    )
    call = partial(_jax.call_jit, equation.params)
    return cut.halves(active, wanted, partial(call, *ahead), partial(call, *behind))


def _is_small(graph) -> bool:
    equations = graph.jaxpr.eqns
    inner = (g for equation in equations for g in _jax.subgraphs(equation))
    return len(equations) <= _SMALL and all(map(_is_small, inner))


jit = CallRule(
    "jit",
    _split_jit,
    activity_inside,
    example=lambda draw: (jax.jit(lambda x: jnp.sin(x) * x), draw.uniform(3)),
)


def _call_twice(equation, active, wanted, settings) -> Halves:
    """out = f(x)        ∂out/∂x = ∂f/∂x: each half is a call"""
    cut = cut_of(graph_inside(equation), active, wanted, settings)
    return cut.halves(active, wanted, _jax.call, _jax.call)


closed_call = CallRule("closed_call", _call_twice, activity_inside)

core_call = CallRule("core_call", _evaluate_twice, activity_inside)

eval_jaxpr = CallRule("eval_jaxpr", _call_twice, activity_inside)


# --- jax.checkpoint ---------------------------------------------------------------------------


def _split_checkpoint(equation, active, wanted, settings) -> Halves:
    """out = f(x)        ∂out/∂x = ∂f/∂x: the backward half computes f again from x

    What may cross the cut is what the author's policy allows; each half is a call, so that the
    cut around it does not decide anew. The barrier keeps XLA from merging the second computation
    with the first, if there is a second one.
    """
    policy = equation.params["policy"]
    chosen = settings._replace(save=policy or jax.checkpoint_policies.nothing_saveable)
    cut = cut_of(graph_inside(equation), active, wanted, chosen)
    guards = equation.params["prevent_cse"] if cut.repeats else False
    of_inputs = guards if isinstance(guards, tuple) else (guards,) * len(active)

    def behind(graph, values):
        guarded = [of_inputs[i] for i in cut.free]
        guarded += [any(of_inputs)] * (len(values) - len(guarded))
        held = iter(_jax.barrier(list(compress(values, guarded))))
        values = [next(held) if is_held else x for x, is_held in zip(values, guarded, strict=True)]
        return _jax.call(graph, values)

    def ahead(graph, values):
        return _jax.call(_with_rounding(graph, sum(cut.kept)), values)

    return cut.halves(active, wanted, ahead, behind)


_SHORT = (jnp.bfloat16, jnp.float16)


@_jax.cached_by_graph
def _with_rounding(graph: Any, size: int) -> Any:
    """The graph with its outputs from `size` on rounded to their format where they are made.

    In a compiled program XLA may keep more digits between two operations than a short format has:
    the forward half would go on with other values than those that the backward half reads.
    """
    jaxpr, equations = graph.jaxpr, []
    variables = [v for v in jaxpr.outvars[size:] if isinstance(v, Var)]
    saved = {v for v in variables if getattr(v.aval, "dtype", None) in _SHORT}
    if not saved:
        return graph
    for equation in jaxpr.eqns:
        made = {v: Var(v.aval) for v in equation.outvars if v in saved}
        equations.append(equation.replace(outvars=[made.get(v, v) for v in equation.outvars]))
        equations += [_rounding(equation, made[v], v) for v in made]
    constants = dict(zip(jaxpr.constvars, graph.consts, strict=True))
    return _jax.graph_of(jaxpr.invars, jaxpr.outvars, equations, constants, jaxpr.debug_info)


def _rounding(like: Any, value: Any, rounded: Any) -> Any:
    form = jnp.finfo(value.aval.dtype)
    bits = {"exponent_bits": form.nexp, "mantissa_bits": form.nmant}
    changed = {"primitive": lax.reduce_precision_p, "params": bits, "effects": set()}
    return like.replace(invars=[value], outvars=[rounded], **changed)


checkpoint = CallRule(
    "remat2",
    _split_checkpoint,
    activity_inside,
    example=lambda draw: (jax.checkpoint(lambda x: jnp.sin(x) * x), draw.uniform(3)),
)
