"""Nodes: one equation each, cut out of the program that an example makes.

With the values that flow into it, a node is all that a rule is about, and it is a function of the
inputs that are differentiated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.check.arrays import Arrays, is_complex, is_float, random_like
from fungrad.check.examples import Example
from fungrad.rulebook import Rule


@dataclass(frozen=True)
class Node:
    """An equation with the values of its inputs.

    Attributes:
        primitive: its primitive.
        params: its parameters.
        inputs: the values of all inputs.
        active: the positions of the inputs that are differentiated.
    """

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Any, ...]
    active: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.primitive}({', '.join(map(_brief, self.inputs))})"

    @cached_property
    def points(self) -> list[Any]:
        """The values of the differentiated inputs."""
        return [self.inputs[i] for i in self.active]

    @cached_property
    def g(self) -> list[Any]:
        """Gradients at the outputs that are floats, drawn at random."""
        return random_like(jax.eval_shape(self.function, *self.points), seed=1)

    def complete(self, points: Arrays) -> list[Any]:
        """All inputs, with `points` for the differentiated ones."""
        inputs = list(self.inputs)
        for i, x in zip(self.active, points, strict=True):
            inputs[i] = self.in_domain(x)
        return inputs

    def in_domain(self, x: Any) -> Any:
        """The nearest Hermitian matrix, where the primitive takes such and reads half of them.

        A gradient says nothing of directions that leave the domain: their part of it is dropped.
        """
        if self.primitive.name not in _OF_HERMITIAN or isinstance(x, _jax.Unknown):
            return x
        return (x + jnp.conj(x.mT)) / 2

    def outputs(self, *points: Any) -> list[Any]:
        """All outputs, such that JAX knows their derivatives."""
        if self.primitive.name in _STAND_INS:
            return [_STAND_INS[self.primitive.name](*self.complete(points))]
        return self.own_outputs(*points)

    def own_outputs(self, *points: Any) -> list[Any]:
        """All outputs, by the primitive itself."""
        params = self.primitive.get_bind_params(self.params)
        out = self.primitive.bind(*self.complete(points), **params)
        return list(out) if self.primitive.multiple_results else [out]

    def function(self, *points: Any) -> list[Any]:
        """The outputs that are floats."""
        return [out for out in self.outputs(*points) if is_float(out)]

    def own_floats(self, *points: Any) -> list[Any]:
        """The outputs that are floats, by the primitive itself."""
        return [out for out in self.own_outputs(*points) if is_float(out)]

    def gradients(
        self, rule: Rule, g: Arrays, points: Arrays, out: Any = None, of: Any = None
    ) -> list[Any]:
        """What the rule returns, with thunks called, broadcasting undone and zeros built.

        Of all points, or of those at the positions `of`.
        """
        out = self.outputs(*points) if out is None else out
        arriving = iter(g)
        g = tuple(next(arriving) if is_float(z) else None for z in out)
        inputs = self.complete(points)
        several = self.primitive.multiple_results
        g_out, out = (g, tuple(out)) if several else (g[0], out[0])
        given = rule(g_out, out, *inputs, **self.params)
        given = list(given) if isinstance(given, tuple | list) else [given]
        assert len(given) == len(inputs), f"{len(given)} gradients for {len(inputs)} inputs"
        asked = self.active if of is None else [self.active[k] for k in of]
        return [self.in_domain(_fit(given[i], inputs[i], rule.broadcasts)) for i in asked]

    def blind(self, rule: Rule, g: Arrays, points: Arrays, chosen: Sequence[int]) -> list[Any]:
        """The gradients of the chosen points; their values, and the outputs', are unknown."""
        out = [_unknown(z) if is_float(z) else z for z in self.outputs(*points)]
        unseen = [_unknown(x) if i in chosen else x for i, x in enumerate(points)]
        return self.gradients(rule, g, unseen, out, of=chosen)


def _brief(x: Any) -> str:
    """A scalar as its value, another array by its type."""
    is_plain = jnp.ndim(x) == 0 and not jnp.issubdtype(x.dtype, jax.dtypes.extended)
    return str(x) if is_plain else f"{x.dtype}{list(x.shape)}"


def _unknown(x: Any) -> Any:
    return _jax.Unknown(_jax.type_of(x))


def _constant(function: Any, *inputs: Any) -> Any:
    return function(*map(lax.stop_gradient, inputs))


# JAX before 0.12 has no rule for `nextafter`, and takes the sign of a complex number for constant.
# These have the same values, and derivatives that JAX knows. The upper half of what the primitive
# `cholesky` makes means nothing, so that its stand-in clears it.
_STAND_INS = {
    "nextafter": lambda x, y: x + _constant(lambda x, y: lax.nextafter(x, y) - x, x, y),
    "cholesky": lax.linalg.cholesky,
    "sign": lambda x: x / jnp.abs(x).astype(x.dtype) if is_complex(x) else lax.sign(x),
}

_OF_HERMITIAN = {"cholesky", "eigh"}

# Witnesses that cannot be asked, and why. They are those of functions, not of rules.
SILENT = {
    "random_gamma": {
        "differences": "it rejects, so that its values jump; the gradient is that of their density",
        "second order": "its derivative, random_gamma_grad, has none",
    }
}


def _fit(given: Any, x: Any, broadcasts: bool) -> Any:
    """The gradient of x, which has the shape and dtype of x."""
    g: Any = given() if callable(given) else given
    if g is None:
        return jnp.zeros(x.shape, x.dtype)
    if broadcasts and g.shape != x.shape:
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        g = jax.linear_transpose(lambda x: jnp.broadcast_to(x, g.shape), like)(g)[0]
    assert g.shape == x.shape, f"a gradient of shape {g.shape} for an input of shape {x.shape}"
    assert g.dtype == x.dtype, f"a gradient of dtype {g.dtype} for an input of dtype {x.dtype}"
    return g


def node_of(example: Example, primitive: str) -> Node:
    """The first equation of that primitive in the example's program.

    Raises:
        LookupError: there is none.
    """
    program = jax.make_jaxpr(example.function)(*example.arguments)
    arguments = [jnp.asarray(x) for x in jax.tree.leaves(example.arguments)]
    for node in _walk(program, [(x, is_float(x)) for x in arguments]):
        if node.primitive.name == primitive:
            return node
    raise LookupError(f"no {primitive!r} in {program}")


def _walk(program: Any, inputs: Sequence[tuple[Any, bool]]) -> Iterator[Node]:
    """Every equation as a node. With each value goes whether it moves with the arguments."""
    jaxpr = program.jaxpr
    known = {v: (c, False) for v, c in zip(jaxpr.constvars, program.consts, strict=True)}
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(v):
        return (np.asarray(v.val, v.aval.dtype), False) if hasattr(v, "val") else known[v]

    for equation in jaxpr.eqns:
        arguments = [read(v) for v in equation.invars]
        if equation.primitive.name == "jit":
            outputs = yield from _walk(equation.params["jaxpr"], arguments)
        else:
            active = tuple(i for i, (x, moves) in enumerate(arguments) if moves and is_float(x))
            values = tuple(x for x, _ in arguments)
            node = Node(equation.primitive, equation.params, values, active)
            yield node
            outputs = [(out, bool(active)) for out in node.own_outputs(*node.points)]
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(v) for v in jaxpr.outvars]
