"""Mutable references. The backward pass of a program with state is a program with state.

For each reference R with a gradient there is another one, G, of the gradient at what R holds. The
backward pass undoes what the program did to R, last step first:

    R = new_ref(x)                    g_x = what G holds at last
    y = R[i]                          G[i] += g_y
    y = R[i], then R[i] = v           g_v = G[i], then G[i] = g_y
    R[i] += v                         g_v = G[i]
    y = R[...], R ends here           G[...] += g_y

For a value that is overwritten the gradient is that of who read it before (g_y, mostly nobody),
and the value that took its place gets what has gathered in G since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.ref
from jax.extend.core.primitives import get_p, swap_p

from fungrad import _jax, passes
from fungrad.passes import Settings
from fungrad.rulebook import CallRule, Halves, gap
from fungrad.rules.calls import halves_of


def _activity(equation: Any, active: Sequence[bool], settings: Settings) -> tuple[bool, ...]:
    """Outputs and references: what holds an active value, unless its author wants no gradient."""
    inputs = [_jax.is_reference_type(v.aval) for v in equation.invars]
    references = [v for v, r in zip(equation.invars, inputs, strict=True) if r]
    flows = all(_jax.is_differentiable(v.aval) for v in references)
    outputs = [_jax.is_differentiable(v.aval) for v in equation.outvars]
    return tuple(flows and reaches for reaches in (*outputs, *inputs))


def _state(primitive: str, *, example: Callable[[Any], Any] | None):
    """Decorator: below is `(equation, *g, G, *i) -> g_in`, the undoing of one operation.

    g is the gradient at its output, if it has one; G the gradient reference of its reference,
    whether input or output; i the indices; g_in the gradient at its array, if it has one.
    """

    def register(function: Callable[..., Any]) -> CallRule:
        def split(equation, active, wanted, settings) -> Halves:
            types = [v.aval for v in equation.invars]
            arrays = [_jax.is_differentiable(t) and not _jax.is_reference_type(t) for t in types]

            def forward(*inputs):
                indices = [
                    x for x, t in zip(inputs, types, strict=True) if not _jax.is_differentiable(t)
                ]
                if any(isinstance(x, _jax.Unknown) for x in inputs):
                    return [_jax.Unknown(v.aval) for v in equation.outvars], indices
                return _jax.bind(equation, inputs), indices

            def backward(indices, g, *references):
                answer = function(equation, *g, *references, *indices)
                return [answer if is_array else None for is_array in arrays]

            return Halves(forward, backward)

        split.__doc__ = function.__doc__
        return CallRule(primitive, split, _activity, example=example)

    return register


def _example(use: Callable[[Any], Any]):
    """An example with a reference to 4 numbers, of which `use` makes something."""

    def run(x):
        ref = jax.new_ref(x)
        ref[1:3] = jnp.sin(ref[1:3])
        return use(ref)

    return lambda draw: (run, draw.uniform(4))


# --- Beginning and end ----------------------------------------------------------------------


@_state("new_ref", example=_example(lambda ref: ref[...]))
def new_ref(equation, G):
    """R = new_ref(x)        g · ∂R/∂x = what G holds at last"""
    return None if G is None else jax.freeze(G)


@_state("empty_ref", example=None)  # JAX evaluates it inside of jax.jit only
def empty_ref(equation, G):
    """R = empty_ref()        ∂R/∂x = 0: it has no inputs"""


@_state("freeze", example=_example(jax.freeze))
def freeze(equation, g, G):
    """y = R[...], the end of R        G[...] += g · ∂y/∂R"""
    if g is not None:
        jax.ref.addupdate(G, (), g)


@_state("free_ref", example=_example(lambda ref: (ref[...], jax.free_ref(ref))[0]))
def free_ref(equation, G):
    """The end of R        ∂out/∂R = 0: nobody reads it any more"""


# --- Reading and writing --------------------------------------------------------------------


@_state("get", example=_example(lambda ref: jnp.sum(ref[...]) * ref[jnp.array([0, 2, 2])]))
def get(equation, g, G, *i):
    """y = R[i]        G[i] += g · ∂y/∂R[i]"""
    if g is not None:
        _jax.addupdate_p.bind(G, g, *i, **equation.params)


@_state("swap", example=_example(lambda ref: jax.ref.swap(ref, 2, 3 * ref[0]) + ref[...]))
def swap(equation, g, G, *i):
    """y = R[i], then R[i] = v        g · ∂R/∂v = G[i], then G[i] = g · ∂y/∂R[i]"""
    g = _jax.zeros(equation.outvars[0].aval) if g is None else g
    return swap_p.bind(G, g, *i, **equation.params)


@_state("addupdate", example=_example(lambda ref: (jax.ref.addupdate(ref, 1, ref[0]), ref[...])[1]))
def addupdate(equation, G, *i):
    """R[i] += v        g · ∂R/∂v = G[i]"""
    return get_p.bind(G, *i, **equation.params)


accum_grad_in_ref = gap("accum_grad_in_ref", reason="no public function of JAX makes one")


# --- A program over references, closed off ---------------------------------------------------


def _split_run_state(equation, active, wanted, settings) -> Halves:
    """y = what f leaves in references that begin with x        ∂y/∂x, through the references"""
    return halves_of(_run_state_graph(equation), active, wanted, settings)


def _run_state_activity(equation: Any, active: Sequence[bool], settings: Settings):
    return passes.reach(_run_state_graph(equation), tuple(active), settings)


def _run_state_graph(equation: Any) -> Any:
    def run(*inputs):
        held = [x if r else jax.new_ref(x) for x, r in zip(inputs, outer, strict=True)]
        _jax.evaluate(body, held)
        return [x if r else jax.freeze(x) for x, r in zip(held, outer, strict=True)]

    (body,) = _jax.subgraphs(equation)
    outer = [_jax.is_reference_type(v.aval) for v in equation.invars]
    return _jax.trace(run, [v.aval for v in equation.invars])


run_state = CallRule("run_state", _split_run_state, _run_state_activity)
