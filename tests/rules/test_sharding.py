"""Functions of shards, and types that say where arrays live, over eight devices against JAX."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fungrad as fg
from tests.agreement import assert_close

AUTO = jax.make_mesh((2, 4), ("i", "j"), axis_types=(AxisType.Auto,) * 2)
EXPLICIT = jax.make_mesh((2, 4), ("i", "j"), axis_types=(AxisType.Explicit,) * 2)
X, W = (np.random.default_rng(k).normal(size=shape) for k, shape in enumerate([(8, 4), (4, 4)]))

both_checks = pytest.mark.parametrize("check", [True, False], ids=["typed", "untyped"])


BOTH = P("i", "j")


def over_mesh(specs: Any, out: Any = BOTH, **how: Any) -> Any:
    return partial(jax.shard_map, mesh=AUTO, in_specs=specs, out_specs=out, **how)


def assert_equals_jax(function, *arguments):
    """The gradients of a sum of sines, by all arguments; the same types as JAX's."""

    def cost(*arguments):
        return sum(jnp.sum(jnp.sin(out)) for out in jax.tree.leaves(function(*arguments)))

    every = tuple(range(len(arguments)))
    got, want = (jax.jit(api.grad(cost, every))(*arguments) for api in (fg, jax))
    assert_close(got, want)
    assert [jax.typeof(x) for x in got] == [jax.typeof(x) for x in want]


# ---- shard_map -----------------------------------------------------------------------------------


@both_checks
def test_a_copied_input_gets_the_sum_of_its_gradients(check):
    @over_mesh((P("i"), P(None, "j")), check_vma=check)
    def product(x, w):
        return jnp.tanh(x) @ w

    assert_equals_jax(product, X, W)


@both_checks
def test_a_copied_output_hands_each_device_its_part(check):
    @over_mesh((P("i", "j"), P()), out=(P(), P("i")), check_vma=check)
    def sums(x, w):
        total = lax.psum(jnp.sum(x * x), ("i", "j"))
        return total * w, lax.psum(x, "j") * jnp.sum(w)

    assert_equals_jax(sums, X, W)


@both_checks
def test_scalars_are_saved(check):
    @over_mesh((P("i", "j"), P()), check_vma=check)
    def scaled(x, scale):
        return jnp.exp(jnp.sin(scale)) * jnp.max(x) * x

    assert_equals_jax(scaled, X, np.float64(2))


@both_checks
def test_bodies_with_calls_loops_and_rules_of_their_authors(check):
    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (3 * g * x**2,))

    @over_mesh((P("i", "j"), P()), check_vma=check)
    def body(x, w):
        x, _ = lax.scan(lambda x, _: (jnp.sin(x) * w[0, 0], None), x, None, length=3)
        x = jax.checkpoint(jnp.cos)(jax.jit(jnp.tanh)(x))
        return jax.nn.relu(cube(x)) + lax.cond(w[0, 1] > 0, jnp.sin, jnp.cos, x)

    assert_equals_jax(body, X, W)


@both_checks
def test_a_body_closes_over_values(check):
    def outer(x, w):
        inner = over_mesh((P("i", "j"),), check_vma=check)(lambda x: jnp.sin(x) * w[0, 0])
        return inner(x)

    assert_equals_jax(outer, X, W)


@both_checks
def test_one_shard_map_in_another(check):
    """JAX loses its way where types are checked, so the same product on one device is the judge."""

    def inner(x, w):
        return lax.psum(jnp.sin(x) @ w, "j")

    @over_mesh((P("i"), P()), out=P("i"), axis_names={"i"}, check_vma=check)
    def outer(x, w):
        specs = {"in_specs": (P(None, "j"), P("j")), "out_specs": P()}
        return jnp.cos(jax.shard_map(inner, axis_names={"j"}, check_vma=check, **specs)(x, w))

    got = jax.jit(fg.grad(lambda x, w: jnp.sum(outer(x, w)), (0, 1)))(X, W)
    want = jax.grad(lambda x, w: jnp.sum(jnp.cos(jnp.sin(x) @ w)), (0, 1))(X, W)
    assert_close(got, want)


@both_checks
def test_some_axes_are_left_to_the_compiler(check):
    @over_mesh((P("i"), P()), out=P("i"), axis_names={"i"}, check_vma=check)
    def product(x, w):
        return lax.psum(jnp.tanh(x @ w), "i") * x

    assert_equals_jax(product, X, W)


def test_gradients_inside_of_a_body():
    for grad in (fg.grad, jax.grad):

        @over_mesh((P("i", "j"), P()), out=P("i", "j"))
        def body(x, w, grad=grad):
            return grad(lambda x: jnp.sum(jnp.sin(x) * w[0, 0]))(x)

        np.testing.assert_allclose(body(X, W), np.cos(X) * W[0, 0], rtol=1e-12)


def test_eager_vmapped_saved_and_twice_differentiated():
    @over_mesh((P("i"), P(None, "j")))
    def product(x, w):
        return jnp.tanh(x @ w) * (1 + lax.axis_index("i").astype(float))

    def cost(x, w):
        return jnp.sum(product(x, w) ** 2)

    want = jax.jit(jax.grad(cost))(X, W)
    dots = jax.checkpoint_policies.dots_saveable
    got = [fg.grad(cost)(X, W), *(jax.jit(fg.grad(cost, save=s))(X, W) for s in ("nothing", dots))]
    assert_close(got, [want] * 3)
    batch = np.stack([X, 2 * X])
    several = [jax.jit(jax.vmap(api.grad(cost), (0, None)))(batch, W) for api in (fg, jax)]
    assert_close(several[:1], several[1:])
    ours = jax.jit(fg.grad(lambda x: jnp.sum(fg.grad(cost)(x, W) ** 2)))
    theirs = jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(cost)(x, W) ** 2)))
    assert_close([ours(X)], [theirs(X)])


def test_a_gradient_that_no_one_asks_for_is_not_sent():
    """What the backward half reads is what it was given, so x alone has its gradients summed."""
    scale = over_mesh((P(), P("i", "j")))(lambda x, w: x * w)
    text = str(jax.make_jaxpr(fg.grad(lambda w: jnp.sum(scale(2.0, w))))(X))
    assert "psum" not in text


def written_to(spec, check):
    """Σ x sin x, by way of a reference that the devices write to."""

    def total(x):
        reference = jax.new_ref(jnp.zeros_like(x))

        def body(reference, x):
            reference[...] = jnp.sin(x) * x

        over_mesh((spec, spec), out=None, check_vma=check)(body)(reference, x)
        return jnp.sum(reference[...])

    return total


@pytest.mark.parametrize(("spec", "check"), [(P("i"), True), (BOTH, True), (BOTH, False)])
def test_references_are_written_to_by_all_devices(spec, check):
    """Expected: sin x + x cos x."""
    got = jax.jit(fg.grad(written_to(spec, check)))(X)
    assert_close([got], [np.sin(X) + X * np.cos(X)])


def test_a_reference_whose_copies_nobody_relates_is_refused():
    with pytest.raises(NotImplementedError, match=r"copy to each device along .* \('j',\)"):
        jax.jit(fg.grad(written_to(P("i"), False)))(X)


# ---- where arrays live ---------------------------------------------------------------------------

ROWS, COLUMNS = (NamedSharding(EXPLICIT, spec) for spec in (P("i"), P(None, "j")))


def placed(x, w):
    return jax.device_put(x, ROWS), jax.device_put(w, COLUMNS)


EXPLICIT_PROGRAMS = {
    "products": lambda x, w: jnp.tanh(x) @ w + jnp.sum(w, 0),
    "shapes": lambda x, w: jnp.stack([w[None], 2.0 * w[None]]).transpose(1, 0, 3, 2),
    "sums": lambda x, w: jnp.sum(x, 0) * jnp.max(w, 1),
    "indices": lambda x, w: lax.dynamic_slice(w, (1, 0), (2, 4)) * x[2:4, :],
    "loop": lambda x, w: lax.scan(lambda x, _: (jnp.sin(x), x), x, None, length=2),
    "reshard": lambda x, w: jax.sharding.reshard(x, P(None, "j")) * w[0],
    "jit": lambda x, w: jax.jit(lambda x: x * 2.0, out_shardings=COLUMNS)(w),
}


@pytest.mark.parametrize("name", EXPLICIT_PROGRAMS)
def test_gradients_live_where_types_say(name):
    with jax.set_mesh(EXPLICIT):
        assert_equals_jax(EXPLICIT_PROGRAMS[name], *placed(X, W))


def test_jacobians_live_where_types_say():
    with jax.set_mesh(EXPLICIT):
        x, _ = placed(X, W)
        got, want = (jax.jit(api.jacrev(jnp.sin))(x) for api in (fg, jax))
    assert_close([got], [want])
    assert jax.typeof(got) == jax.typeof(want)


def test_a_constraint_holds_for_the_gradient_too():
    where = NamedSharding(AUTO, P("j"))
    pulled = fg.vjp(lambda x: lax.with_sharding_constraint(x, where), X)[1]
    (constraint,) = jax.make_jaxpr(pulled)(X).eqns
    assert constraint.primitive.name == "sharding_constraint"
    assert constraint.params["sharding"] == where


def test_a_jit_keeps_the_places_that_its_author_names():
    rows, columns = (NamedSharding(AUTO, spec) for spec in (P("i"), P(None, "j")))

    @partial(jax.jit, in_shardings=(rows, None), out_shardings=columns)
    def product(x, w):
        return jnp.sin(x) @ w

    out, pullback = fg.vjp(product, X, W)
    assert out.sharding == columns
    program = jax.make_jaxpr(pullback)(out)
    (call,) = program.eqns
    assert columns in call.params["in_shardings"]
    assert call.params["out_shardings"][0] == rows
    assert pullback(out)[0].sharding == rows
