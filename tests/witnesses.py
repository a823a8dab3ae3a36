"""Witnesses: independent ways to know a gradient, each of which compares it with a rule's.

A `Node` is one equation, cut out of the program that an example makes, with the values that flow
into it. A witness is a function `(rule, node, g, points) -> claims` that can be traced: what the
rule says at the node, and what another source says: JAX's own rule, differences, the explicit
Jacobian, the same rule in other number formats. `check` compiles a witness and compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.extend.core import jaxpr_as_fun

import fungrad as fg
from fungrad import _jax
from fungrad.check.examples import Example
from fungrad.rulebook import Rule

Arrays = Sequence[Any]

RTOL = 1e-12


# --- Nodes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """An equation with the values of its inputs.

    Attributes:
        primitive: its primitive.
        params: its parameters.
        inputs: the values of all inputs.
        active: the positions of the inputs that are differentiated.
        exact: if the node is in another number format, the same one in float64.
    """

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Any, ...]
    active: tuple[int, ...]
    exact: Node | None = None

    @cached_property
    def points(self) -> list[Any]:
        """The values of the differentiated inputs."""
        return [self.inputs[i] for i in self.active]

    @cached_property
    def g(self) -> list[Any]:
        """Gradients at the outputs that are floats, drawn at random."""
        return random_like(jax.eval_shape(self.function, *self.points), seed=1)

    @property
    def is_complex(self) -> bool:
        """Whether a complex number takes part."""
        return any(map(is_complex, [*self.inputs, *self.g]))

    def complete(self, points: Arrays) -> list[Any]:
        """All inputs, with `points` for the differentiated ones."""
        inputs = list(self.inputs)
        for i, x in zip(self.active, points, strict=True):
            inputs[i] = x
        return inputs

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
        return [_fit(given[i], inputs[i], rule.broadcasts) for i in asked]


def _constant(function: Any, *inputs: Any) -> Any:
    return function(*map(lax.stop_gradient, inputs))


# JAX before 0.12 has no rule for `nextafter`, and takes the sign of a complex number for constant.
# These have the same values, and derivatives that JAX knows.
_STAND_INS = {
    "nextafter": lambda x, y: x + _constant(lambda x, y: lax.nextafter(x, y) - x, x, y),
    "sign": lambda x: x / jnp.abs(x).astype(x.dtype) if is_complex(x) else lax.sign(x),
}


def is_float(x: Any) -> bool:
    """Whether x has a gradient."""
    return jnp.issubdtype(x.dtype, jnp.inexact)


def is_complex(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.complexfloating)


def random_like(arrays: Arrays, seed: int) -> list[Any]:
    """Numbers of sizes between 0.5 and 2, in the arrays' shapes and dtypes."""
    draw = np.random.default_rng(seed)

    def one(x):
        numbers = draw.uniform(0.5, 2, x.shape) * draw.choice([-1.0, 1.0], x.shape)
        turn = np.exp(1j * draw.uniform(-3, 3, x.shape)) if is_complex(x) else 1.0
        return np.asarray(numbers * turn, x.dtype)

    return [one(x) for x in arrays]


def _fit(given: Any, x: Any, broadcasts: bool) -> Any:
    """The gradient of x, which has the shape and dtype of x."""
    g = given() if callable(given) else given
    if g is None:
        return jnp.zeros(x.shape, x.dtype)
    if broadcasts and g.shape != x.shape:
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        g = jax.linear_transpose(lambda x: jnp.broadcast_to(x, g.shape), like)(g)[0]
    assert g.shape == x.shape, f"a gradient of shape {g.shape} for an input of shape {x.shape}"
    assert g.dtype == x.dtype, f"a gradient of dtype {g.dtype} for an input of dtype {x.dtype}"
    return g


def low_node_of(example: Example, primitive: str, dtype: str) -> Node:
    """The node in another format, which knows the node in float64 at the same numbers."""
    low = example.in_format(dtype)
    return replace(node_of(low, primitive), exact=node_of(low.in_format("float64"), primitive))


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


# --- Claims ---------------------------------------------------------------------------------


@partial(
    jax.tree_util.register_dataclass, data_fields=["got", "want", "slack"], meta_fields=["rtol"]
)
@dataclass(frozen=True)
class Claim:
    """That numbers are equal but for rtol of each, a tenth of rtol of the largest, and a slack.

    NaN and Inf must stand in the same places.
    """

    got: Arrays
    want: Arrays
    rtol: float = RTOL
    slack: Arrays | None = None

    def verify(self) -> None:
        assert len(self.got) == len(self.want)
        slack = self.slack or [np.zeros(())] * len(self.want)
        for a, b, extra in zip(self.got, self.want, slack, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            a, b = (np.asarray(x, complex if is_complex(x) else float) for x in (a, b))
            size = np.abs(b[np.isfinite(b)]).max(initial=0.0)
            atol = 0.1 * self.rtol * size + np.asarray(extra, float)
            both_nan, equal = np.isnan(a) & np.isnan(b), a == b
            with np.errstate(invalid="ignore"):
                near = np.abs(a - b) <= self.rtol * np.abs(b) + atol
            assert np.all(near | equal | both_nan), f"a gradient is\n{a}\nwhere it should be\n{b}"


def check(witness: Any, rule: Rule, nodes: Sequence[Node]) -> None:
    """Take the witness at every node: one compiled program for all of them."""

    def claims(at):
        return [
            _named(node, witness, rule, node, g, points)
            for node, (g, points) in zip(nodes, at, strict=True)
        ]

    # A program whose arguments are constants takes XLA a third of the time: it has them folded.
    at = [(node.g, node.points) for node in nodes]
    program, shape = jax.make_jaxpr(claims, return_shape=True)(at)
    numbers = jax.jit(lambda: jaxpr_as_fun(program)(*jax.tree.leaves(at)))()
    found = jax.tree.unflatten(jax.tree.structure(shape), numbers)
    for node, some in zip(nodes, found, strict=True):
        for claim in some:
            _named(node, claim.verify)


def _named(node: Node, function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        error.add_note(f"at the inputs {node.inputs} of {node.primitive} with {node.params}")
        raise


def by_jax(function: Any, *args: Any) -> Any:
    """The function's value where JAX has the rules that it needs, else `None`."""
    try:
        with jax.numpy_dtype_promotion("standard"):  # JAX's rule of pow with an integer needs that
            return function(*args)
    except NotImplementedError:
        return None


def pull_back(node: Node, g: Arrays, points: Arrays) -> list[Any]:
    """The gradients by JAX's rule."""
    return list(jax.vjp(node.function, *points)[1](g))


def inner(g: Arrays, x: Arrays) -> Any:
    """Re Σ g x: how far the loss moves when values move by x and their gradients are g."""
    return sum((jnp.real(jnp.sum(a * b)).astype(float) for a, b in zip(g, x, strict=True)), 0.0)


# --- Witnesses ------------------------------------------------------------------------------


def equals_jax(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """Each gradient is JAX's."""
    want = by_jax(pull_back, node, g, points)
    return [] if want is None else [Claim(node.gradients(rule, g, points), want)]


def equals_differences(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """g · J · v is the slope of g · f along a random v, by the five-point formula.

    s'(0) = (8 (s(h) − s(−h)) − (s(2h) − s(−2h))) / 12h + O(h⁴)
    """
    h = 2e-4
    v = random_like(points, seed=2)

    def s(t):
        out = node.function(*(x + t * d for x, d in zip(points, v, strict=True)))
        return inner(g, [jnp.where(jnp.isfinite(z), z, jnp.zeros((), z.dtype)) for z in out])

    slope = (8 * (s(h) - s(-h)) - (s(2 * h) - s(-2 * h))) / (12 * h)
    gradients = node.gradients(rule, g, points)
    size = sum(jnp.sum(jnp.abs(a * b)).astype(float) for a, b in zip(gradients, v, strict=True))
    rounding = max((float(jnp.finfo(x.dtype).eps) for x in g), default=0.0)
    slack = 1e-9 * size + 10 * rounding / h * (1 + size)
    return [Claim([inner(gradients, v)], [slope], 0.0, [slack])]


def equals_jacobian(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """The rule's Jacobian, row by row, is that of JAX's forward mode, column by column.

    And the rule is linear in g: vec(g) · J is what it returns for g.
    """
    point, to_points = _vector(points)
    row, to_g = _vector(_conjugates(g))

    def f(x):
        return _vector(node.function(*to_points(x)))[0]

    def pull(row):  # dL = Re(g dz), so the conjugate of g is dL by the parts of z
        gradients = node.gradients(rule, _conjugates(to_g(row)), points)
        return _vector(_conjugates(gradients))[0]

    jacobian = jax.vmap(pull)(np.eye(row.size))
    want = by_jax(jax.jacfwd(f), point)
    linear = Claim([row @ jacobian], [pull(row)])
    return [linear] if want is None else [linear, Claim([jacobian], [want])]


def _vector(arrays: Arrays) -> Any:
    """The vector of all real and imaginary parts, and the function back."""
    parts = [jnp.stack([x.real, x.imag]) if is_complex(x) else x for x in arrays]
    shapes = [x.shape for x in parts]
    ends = np.cumsum([x.size for x in parts])[:-1]

    def back(vector):
        pieces = jnp.split(vector, ends)
        shaped = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
        return [
            (lax.complex(x[0], x[1]) if is_complex(like) else x).astype(like.dtype)
            for x, like in zip(shaped, arrays, strict=True)
        ]

    return jnp.concatenate([x.astype(float).ravel() for x in parts]), back


def _conjugates(arrays: Arrays) -> list[Any]:
    return [jnp.conj(x) if is_complex(x) else x for x in arrays]


def equals_jax_twice(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """The gradient's own gradient, along a random direction, is JAX's."""
    w = random_like(points, seed=3)

    def gradient(of):
        return jax.tree.leaves(jax.vjp(lambda *x: inner(w, of(*x)), g, points)[1](np.ones(())))

    want = by_jax(gradient, partial(pull_back, node))
    return [] if want is None else [Claim(by_jax(gradient, partial(node.gradients, rule)), want)]


def keeps_under_vmap(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """Batched over g and the inputs, the rule says what it says one by one."""
    several = [g, points], [[2 * x for x in g], [0.9 * x for x in points]]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *several)

    def one(g_and_points):
        return node.gradients(rule, *g_and_points)

    return [Claim(jax.vmap(one)(batch), lax.map(one, batch))]


def equals_float64(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """Of a node in another format: the gradients are those of float64, but for rounding.

    Or at least as near to those as JAX's are in that format.
    """
    got = node.gradients(rule, g, points)
    want = node.exact.gradients(rule, _in_float64(g), _in_float64(points))
    theirs = _in_float64(by_jax(pull_back, node, g, points) or got)
    slack = [jnp.abs(x - y) for x, y in zip(theirs, want, strict=True)]
    eps = max(float(jnp.finfo(x.dtype).eps) for x in got)
    return [Claim(_in_float64(got), want, 4 * eps, slack)]


def _in_float64(arrays: Arrays) -> list[Any]:
    return [x.astype("complex128" if is_complex(x) else "float64") for x in arrays]


def reads_no_linear_input(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """Where the node is linear in inputs, their gradients do not depend on their values.

    In a graph of tangents such inputs, and with them the output, have no value.
    """
    want = node.gradients(rule, g, points)
    unknown = [_unknown(z) if is_float(z) else z for z in node.outputs(*points)]
    claims = []
    for chosen in [*([i] for i in range(len(points))), list(range(len(points)))]:
        if _is_linear(node, g, points, chosen):
            blind = [_unknown(x) if i in chosen else x for i, x in enumerate(points)]
            got = node.gradients(rule, g, blind, unknown, of=chosen)
            claims.append(Claim(got, [want[i] for i in chosen]))
    return claims


def _unknown(x: Any) -> Any:
    return _jax.Unknown(_jax.type_of(x))


def _is_linear(node: Node, g: Arrays, points: Arrays, chosen: Sequence[int]) -> bool:
    """Whether JAX can transpose the node by the chosen ones of its points."""

    def f(*xs):
        given = dict(zip(chosen, xs, strict=True))
        return node.function(*(given.get(i, x) for i, x in enumerate(points)))

    try:
        jax.linear_transpose(f, *(points[i] for i in chosen))(g)
    except Exception:  # of any type: JAX's rules of transposition assert what they need
        return False
    return True


# --- The engine -----------------------------------------------------------------------------

OWN_RULES = fg.rules.replace({}, strict=True)


def engine_equals_jax(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """`fg.vjp` of the node with that rule is JAX's; no other rule is borrowed from JAX."""
    known = rule is fg.rules[rule.primitive]
    rules = OWN_RULES if known else fg.rules.replace({rule.primitive: rule.function})

    def own(*points):
        return [out for out in node.own_outputs(*points) if is_float(out)]

    got = list(fg.vjp(own, *points, rules=rules)[1](g))
    want = by_jax(pull_back, node, g, points)
    return [] if want is None else [Claim(got, want)]
