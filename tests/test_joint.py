"""The joint graph: both passes as one, without what is dead."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import fungrad as fg
from fungrad import _jax
from fungrad.joint import join
from fungrad.passes import Settings
from tests.test_crossing import array, traced

x, y = jnp.array([0.3, -0.7, 1.1]), jnp.array([1.2, 0.4, -0.5])
types = [jax.typeof(x), jax.typeof(y)]


def joined(function, active, wanted, kept):
    return join(traced(function, types), active, wanted, kept, Settings(fg.rules))


def primitives(joint, which=None):
    places = range(len(joint.equations)) if which is None else sorted(which)
    return [joint.equations[i].primitive.name for i in places]


def function(x, y):
    return jnp.sin(x) * y, jnp.exp(y)


@pytest.mark.parametrize("active", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("wanted", [(True, True), (True, False)])
@pytest.mark.parametrize("kept", [(True, True), (False, False)])
def test_it_computes_what_is_kept_and_the_gradients(active, wanted, kept):
    joint = joined(function, active, wanted, kept)
    used = [v is not None for v in (*joint.inputs, *joint.g)]
    g = [y, x][: sum(wanted)]
    variables = [v for v in (*joint.inputs, *joint.g) if v is not None]
    values = [value for value, use in zip((x, y, *g), used, strict=True) if use]
    results = [*joint.outputs, *joint.gradients]
    graph = _jax.graph_of(variables, results, joint.equations, joint.constants, joint.info)
    found = _jax.evaluate(graph, values)

    outputs, pullback = jax.vjp(function, x, y)
    full = [*g, jnp.zeros(3)][:2]
    gradients = pullback(tuple(full))
    expected = [out for out, keep in zip(outputs, kept, strict=True) if keep]
    given = iter(joint.gives)
    expected += [z for z, a in zip(gradients, active, strict=True) if a and next(given)]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_what_is_not_asked_for_is_not_in_it():
    joint = joined(function, (True, False), (True, False), (False, False))
    assert sorted(primitives(joint)) == ["cos", "mul", "mul"]
    assert joint.gives == (True,)
    assert [v is None for v in (*joint.inputs, *joint.g)] == [False, False, False]


def test_a_gradient_that_is_zero_is_not_given():
    joint = joined(lambda x, y: (jnp.floor(x), y), (True, True), (True, True), (True, True))
    assert joint.gives == (False, True)
    assert joint.g[0] is None


def test_what_needs_what():
    joint = joined(function, (True, True), (True, True), (True, True))
    assert primitives(joint, joint.needed(joint.outputs)) == ["sin", "mul", "exp"]
    sine = joint.equations[0].outvars
    assert primitives(joint, joint.needed(joint.outputs, given=sine)) == ["mul", "exp"]
    assert sine[0] in joint.read_by(range(len(joint.equations)))


def test_what_depends_on_what():
    joint = joined(function, (True, True), (True, True), (True, True))
    after = joint.depending_on(joint.g, set())
    assert joint.needed(joint.outputs).isdisjoint(after)
    assert set(primitives(joint, after)) <= {"mul", "add_any"}
    assert joint.depending_on((), {0}) >= {0}


def test_effects_of_the_backward_pass_are_late():
    @jax.custom_vjp
    def watched(x):
        return x

    def back(_, g):
        jax.debug.print("{}", g)
        return (g,)

    watched.defvjp(lambda x: (x, None), back)

    def printing(x, y):
        jax.debug.print("{}", x)
        return watched(x) * y

    joint = joined(printing, (True, True), (True,), (True,))
    acting = [i for i, e in enumerate(joint.equations) if _jax.is_effectful(e)]
    assert len(acting) == 2
    assert joint.late == {acting[1]}


def test_of_a_tangent_graph_values_are_not_needed():
    """ṫ ↦ cos x · ṫ is linear: the gradient reads x, and no output can be known."""
    graph = traced(lambda x, t: jnp.cos(x) * t, [array(3), array(3)])
    settings = Settings(fg.rules, linear=True)
    joint = join(graph, (False, True), (True,), (False,), settings)
    assert primitives(joint) == ["cos", "mul"]
    assert joint.inputs[1] is None


def test_what_an_unknown_tangent_is_rounded_to_is_unknown_too():
    """Beside a product with the tangent, the place of the largest entry of that."""

    @jax.jit
    def product(t):
        return jnp.array([[1.0, 2.0, 0.0]]).T @ t[:1], jnp.argmax(jnp.abs(t))

    @jax.custom_jvp
    def f(x):
        return product(x)[0]

    f.defjvps(lambda t, out, x: product(t)[0])
    np.testing.assert_allclose(fg.grad(lambda x: jnp.sum(f(x)))(x), [3.0, 0.0, 0.0])
    known = join(
        jax.make_jaxpr(product)(x).eqns[0].params["jaxpr"],
        (True,), (True, False), (False, True), Settings(fg.rules, linear=True),
    ).kept  # fmt: skip
    assert known == (False, False)
