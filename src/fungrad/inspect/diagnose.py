"""`diagnose`: where a NaN, an infinite or a zero gradient comes from, and what helps.

Both passes are run equation by equation at the arguments given (diagnosis/record.py). If a gradient
or an output is not finite, blame is followed to its origin (trails.py); if an argument's gradient
is zero throughout, the lines that block it are sought (zeros.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_leaves

from fungrad import _jax
from fungrad.inspect.arguments import named_leaves
from fungrad.inspect.diagnosis import norms
from fungrad.inspect.diagnosis.calls import enter
from fungrad.inspect.diagnosis.findings import findings_of
from fungrad.inspect.diagnosis.levels import level_of
from fungrad.inspect.diagnosis.record import Frame, Where
from fungrad.inspect.diagnosis.report import Diagnosis, Norm
from fungrad.inspect.diagnosis.values import Value
from fungrad.pullback import settings_of
from fungrad.rulebook import Rulebook
from fungrad.transforms import as_indices, of_chosen


def diagnose(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    has_aux: bool = False,
    *,
    cotangent: Any = None,
    rules: Rulebook | None = None,
) -> Callable[..., Diagnosis]:
    """Where a NaN, Inf or zero in the gradients of `fun` is born: `diagnose(fun)(*args)`.

    It runs `fun` forward and backward at the arguments, and names the operation that is the
    origin: its source line, its formula with the numbers that made it, the iteration of the loop,
    the example under `jax.vmap`, the branch, and the usual cure. What is NaN or infinite inside
    `fun` but reaches neither an output nor a gradient is no alarm, nor is an infinite constant that
    the output hands on; an argument's gradient that is zero in part is none either, but one that is
    exactly zero throughout is.

    Args:
        fun: a function of pytrees of arrays.
        argnums: the positional argument, or several, to differentiate with respect to; `None` is
            every float array among the arguments.
        has_aux: `fun` returns a pair whose second entry is not differentiated.
        cotangent: the gradient at the output, in its structure; `None` is ones, so that the
            sum of the outputs is differentiated.
        rules: the rulebook; `None` is `fungrad.rules`.

    Returns:
        A function of the arguments of `fun`, which must be known here and now. It returns a
        `Diagnosis`.

    Raises:
        TypeError: `fun` is no function; when called: an argument is no array but the description
            of one, or is traced.
        ValueError: when called: `cotangent` has another structure or shape than the output.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> found = fg.diagnose(lambda x: jnp.sqrt(jnp.sum(x**2)))(jnp.zeros(3))
    >>> found.healthy, found.node, found.cause
    (False, 'sqrt', 'the slope of √x at 0, 1 / 2√x, is infinite')
    >>> fg.diagnose(lambda x: jnp.sum(x**2))(jnp.ones(3)).healthy
    True
    """
    if not callable(fun):
        raise TypeError(f"fun must be a function, got {fun!r}")
    chosen = None if argnums is None else as_indices(argnums)
    settings = settings_of(rules, None)

    def look(*args: Any, **kwargs: Any) -> Diagnosis:
        with jax.debug_nans(False), jax.debug_infs(False):
            program = _Program(fun, chosen, has_aux, args, kwargs)
            graph = settings.rules.placed(_of_values(program.graph))
            where = Where(settings, enter)
            frame = Frame(level_of(graph), program.inputs, program.active, where)
            given = program.given(cotangent, frame)
            gradients = frame.pull(given)
            findings = findings_of(frame, program.names, gradients, program.results)
            return _diagnosis(frame, program, gradients, findings)

    return look


def _diagnosis(frame, program, gradients, findings) -> Diagnosis:
    layers = norms.layers_of(frame) if not findings else ()
    arguments = [
        Norm(name, 0.0 if g is None else norms.norm_of(g.array), int(np.size(value.array)))
        for name, value, g, active in zip(
            program.names, program.inputs, gradients, program.active, strict=True
        )
        if active
    ]
    return Diagnosis(tuple(findings), tuple(arguments), layers, norms.word_on(layers))


def _of_values(graph: Any) -> Any:
    """The graph without mutable references: what they hold is handed on as a value."""
    return _jax.without_references(graph) if _has_references(graph) else graph


def _has_references(graph: Any) -> bool:
    variables = (v for e in graph.jaxpr.eqns for v in (*e.invars, *e.outvars))
    inner = (g for e in graph.jaxpr.eqns for g in _jax.subgraphs(e))
    own = any(_jax.is_reference_type(v.aval) for v in variables)
    return own or any(map(_has_references, inner))


class _Program:
    """A function of pytrees, read at its arguments, whose arrays are the inputs of its graph."""

    def __init__(self, fun: Any, argnums: Any, has_aux: bool, args: Any, kwargs: Any):
        names, leaves, rebuild = named_leaves(fun, args, kwargs)
        places = [i for i, leaf in enumerate(leaves) if _is_array(leaf)]
        for place in places:
            _check_is_known(names[place], leaves[place])
        self.results = 0
        chosen: list[bool] = []

        def flat(*values):
            whole = list(leaves)
            for place, value in zip(places, values, strict=True):
                whole[place] = value
            args, kwargs = rebuild(whole)
            if argnums is not None:
                own = {id(x) for x in of_chosen(fun, argnums, args, kwargs)[1]}
                chosen[:] = [id(x) in own for x in values]
            out = fun(*args, **kwargs)
            out, aux = out if has_aux else (out, None)
            outputs = [_jax.canonical(x) for x in tree_leaves(out)]
            self.results = len(outputs)
            return [*outputs, *(x for x in tree_leaves(aux) if _jax.is_tracer(x))]

        values = [_jax.argument(leaves[i]) for i in places]
        self.graph = _jax.trace_at(flat, values, _jax.source_of(fun))
        self.names = [names[i] for i in places]
        self.inputs = [
            Value(x[...] if _jax.is_reference(x) else x, name=name, is_argument=True)
            for x, name in zip(values, self.names, strict=True)
        ]
        floats = [_jax.is_differentiable(_jax.type_of(x)) for x in values]
        chosen = chosen or floats
        self.active = tuple(a and b for a, b in zip(chosen, floats, strict=True))

    def given(self, cotangent: Any, frame: Frame) -> list[Value | None]:
        """The gradient at each output of the graph: ones, or what the caller gave."""
        types = [v.aval for v in frame.level.graph.jaxpr.outvars]
        rest = [None] * (len(types) - self.results)
        types = types[: self.results]
        floats = [_jax.is_differentiable(aval) for aval in types]
        if cotangent is None:
            ones = [
                jnp.ones(t.shape, t.dtype) if f else None
                for t, f in zip(types, floats, strict=True)
            ]
            return [None if x is None else Value(x, name="a gradient of 1") for x in ones] + rest
        leaves = tree_leaves(cotangent)
        if [np.shape(x) for x in leaves] != [aval.shape for aval in types]:
            raise ValueError(
                "cotangent must have the output's structure and shapes, "
                f"{[aval.shape for aval in types]}, got {[np.shape(x) for x in leaves]}"
            )
        return [
            Value(jnp.asarray(x, aval.dtype), name="the cotangent") if f else None
            for x, aval, f in zip(leaves, types, floats, strict=True)
        ] + rest


def _is_array(leaf: Any) -> bool:
    """Not Python's integers and booleans, and what is no number: they are part of the function."""
    return isinstance(leaf, float | complex) or (hasattr(leaf, "shape") and hasattr(leaf, "dtype"))


def _check_is_known(name: str, leaf: Any) -> None:
    if isinstance(leaf, jax.ShapeDtypeStruct) or _jax.is_tracer(leaf):
        raise TypeError(
            f"argument {name} must be an array whose numbers are known, got {leaf!r}; call "
            "diagnose outside of jax.jit and other transformations"
        )
