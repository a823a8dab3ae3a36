"""What crosses the cut: the cheapest choice there is, and what it comes to on the usual layers."""

from itertools import chain, combinations

import jax
import pytest
from jax import lax
from jax import numpy as jnp
from jax.experimental import io_callback

import fungrad as fg
from fungrad import _jax, saving
from fungrad.costs import LARGE, NEVER, WRITING, Effort, bytes_of
from fungrad.crossing import cheapest, operands_of
from fungrad.joint import join
from fungrad.passes import Settings

NARROW, WIDE = 8, 2048
policies = jax.checkpoint_policies


def array(*shape, dtype="float32"):
    return jax.typeof(jax.ShapeDtypeStruct(shape, dtype))


def traced(function, types):
    return _jax.trace(lambda *args: jax.tree.leaves(function(*args)), types)


def masks(graph):
    return (True,) * len(graph.jaxpr.invars), *((True,) * len(graph.jaxpr.outvars),) * 2


# --- Against all choices --------------------------------------------------------------------------


def layer(activation):
    return lambda W, x: activation(x @ W)


def squares(W, x):
    h = x @ W
    return jnp.sum(jnp.sin(h) * jnp.cos(h), axis=0)


def centred(W, x):
    h = x @ W
    h = h - jnp.sum(h, axis=1, keepdims=True)
    return h * lax.rsqrt(jnp.sum(h * h, axis=1, keepdims=True))


def compared(W, x):
    h = x @ W
    return jnp.where(jnp.exp(h) > 2, jnp.tanh(h), h * h)


PROGRAMS = {
    "tanh": layer(jnp.tanh),
    "relu": layer(lambda h: jnp.maximum(h, 0) * 2),
    "chain": layer(lambda h: jnp.exp(jnp.sin(jnp.tanh(h)))),
    "two products": lambda W, x: jnp.sin(jnp.tanh(x @ W) @ W),
    "squares": squares,
    "norm": centred,
    "sort": lambda W, x: jnp.exp(lax.sort(jnp.tanh(x @ W))),
    "comparison": compared,
}
EFFORTS = [Effort(), Effort(0.1), Effort(20.0), Effort(4.0, dear=True), Effort(NEVER)]


def price(joint, ahead, after, dear, effort, crossing):
    """What the halves cost that stop at these values: bytes that are kept, operations repeated."""
    behind = joint.needed([*joint.gradients, *joint.read_by(after)], crossing)
    made_ahead = {v for i in ahead for v in joint.equations[i].outvars}
    made = crossing - dear
    kept = sum(bytes_of(v.aval) * (1.0 if v in made_ahead else WRITING) for v in made)
    read = joint.read_by(behind)
    kept += sum(bytes_of(v.aval) for v in dear if any(v is r for r in read))
    again = sum(effort.price_of(joint.equations[i]) for i in behind & ahead)
    return kept * effort.price_of_byte(apart=True) + again


def subsets(values):
    return map(set, chain.from_iterable(combinations(values, n) for n in range(len(values) + 1)))


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_other_choice_costs_less(name, width, effort):
    """As in the body of a loop that carries x."""
    graph = traced(PROGRAMS[name], [array(width, width), array(6, width)])
    joint = join(graph, *masks(graph), Settings(fg.rules))
    ahead = joint.needed(joint.outputs)
    after = joint.depending_on(joint.g, set())
    dear = {joint.inputs[1]}

    def costs(crossing):
        return price(joint, ahead, after, dear, effort, crossing)

    found = cheapest(joint, ahead, after, set(), (False, True), effort, True)
    needed = joint.needed([*joint.gradients, *joint.read_by(after)]) - after
    values = [v for i in needed for v in joint.equations[i].outvars]
    assert len(values) <= 12
    assert costs(found) == min(map(costs, subsets(values)))


def test_where_all_comes_for_nothing_nothing_crosses():
    graph = traced(lambda x: x + 1, [array(3)])
    joint = join(graph, *masks(graph), Settings(fg.rules))
    after = joint.depending_on(joint.g, set())
    assert cheapest(joint, {0}, after, set(), (), Effort(), False) == set()


# --- In loops -------------------------------------------------------------------------------------

B, D = 16, 2048
CARRY = array(B, D)


def body_cut(step, *types, consts=1, carry=1, effort=None):
    """The cut of a loop's body (constants, carry, xs) ↦ outputs."""
    graph = traced(step, types)
    n = len(types)
    invariant = (True,) * consts + (False,) * (n - consts)
    stacked = tuple(consts <= i < consts + carry for i in range(n))
    active = tuple(_jax.is_differentiable(t) for t in types)
    wanted = tuple(_jax.is_differentiable(t) for t in graph.out_avals)
    kept = (True,) * len(wanted)
    return saving.split(
        graph, active, wanted, kept, Settings(fg.rules, effort), invariant, stacked, True
    )


def saved(cut):
    return sorted(f"{aval.dtype}{list(aval.shape)}" for aval in cut.saved)


def again(cut, *names):
    """How often the backward half does operations of these names."""
    found = list(every_primitive(cut.backward))
    return tuple(found.count(name) for name in names)


def every_primitive(graph):
    for equation in graph.jaxpr.eqns:
        yield equation.primitive.name
        for inner in _jax.subgraphs(equation):
            yield from every_primitive(inner)


def normalized(h):
    h = h - jnp.mean(h, axis=-1, keepdims=True)
    return h * lax.rsqrt(jnp.mean(h * h, axis=-1, keepdims=True) + 1e-5)


ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softmax": jax.nn.softmax,
    "norm": normalized,
    "gelu of norm": lambda h: jax.nn.gelu(normalized(h)),
}
W = array(D, D)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_of_a_layer_one_array_is_kept_and_the_carry(name):
    """As wide as a layer is, besides small reductions; what follows its product is repeated."""
    cut = body_cut(lambda W, x: ACTIVATIONS[name](x @ W) @ W, W, CARRY)
    wide = [aval for aval in cut.saved if aval.size >= CARRY.size]
    assert [aval.shape for aval in wide] == [CARRY.shape]
    assert all(aval.shape == (B, 1) for aval in cut.saved if aval not in wide)
    assert cut.free == (0, 1)


def test_a_narrow_product_is_repeated():
    """2K operations an element against its bytes."""
    narrow = array(16, D)
    cut = body_cut(lambda W, x: jnp.sin(x @ W), narrow, array(B, 16))
    assert (saved(cut), cut.free) == ([], (0, 1))
    assert again(cut, "dot_general") == (3,)


def test_a_mask_is_cheaper_than_a_number():
    """Neither input of the sum is in memory later, so that of its sign one byte is kept."""
    cut = body_cut(lambda W, V, x: jax.nn.relu(x @ W + x @ V), W, W, CARRY, consts=2)
    assert saved(cut) == [f"bool[{B}, {D}]"]


@pytest.mark.parametrize(("room", "products"), [(4, 2), (2.5, 3), (1.5, 4)])
def test_a_loop_that_keeps_much_keeps_what_is_made_last(room, products):
    """At 192 entries a product is worth its bytes, but not twice as many; the carry is kept."""
    narrow, carry = array(192, 192), array(B, 192)
    steps = round(LARGE / (room * bytes_of(carry)))

    def step(U, V, x):
        return jnp.tanh(jnp.tanh(x @ U) @ V)

    cut = body_cut(step, narrow, narrow, carry, consts=2, effort=Effort(steps=steps))
    assert again(cut, "dot_general") == (2 + products,)
    assert len(cut.saved) == 4 - products


@pytest.mark.parametrize(("steps", "waists"), [(2, 1), (10**6, 0)])
def test_a_loop_keeps_the_waist_of_its_body(steps, waists):
    """Dear as it is to keep, if all steps' together take less room than what it spares."""
    wide, waist = array(16, 64), array(B, 16)

    def step(U, V, x):
        h = x + jnp.tanh(x @ U) @ V
        return h + jnp.tanh(h @ U) @ V

    effort = Effort(thrift=1e6, steps=steps)
    cut = body_cut(step, wide, array(64, 16), waist, consts=2, effort=effort)
    assert [aval.shape for aval in cut.saved] == [waist.shape] * waists


def test_what_stays_the_same_is_not_kept():
    """It is computed once, outside of the loop."""

    def step(w, x):
        return jnp.tanh(x * jnp.exp(lax.sort(jnp.outer(jnp.sin(w), w))))

    cut = body_cut(step, array(D), array(D, D), consts=1)
    assert (saved(cut), cut.free) == ([], (0, 1))
    assert again(cut, "sort", "exp") == (2, 1)  # the sort's rule sorts places, too


def test_a_carry_costs_and_inputs_of_the_loop_do_not():
    """tanh x is kept, and so x is not."""
    cut = body_cut(lambda x, t: (jnp.tanh(x), jnp.tanh(t)), CARRY, CARRY, consts=0)
    assert (saved(cut), cut.free) == ([f"float32[{B}, {D}]"], (1,))


def test_a_small_result_of_large_ones_is_kept():
    cut = body_cut(lambda W, x: jnp.sin(jnp.sum(jnp.sin(x @ W))), W, CARRY)
    assert saved(cut) == [f"float32[{B}, {D}]", "float32[]"]


def key_from(x):
    return jax.random.key(lax.stop_gradient(x[0, 0]).astype("int32"))


square = array(64, 64)
DEAR = {
    "sort": lambda x: jnp.sin(lax.sort(x)),
    "cholesky": lambda x: jnp.sin(lax.linalg.cholesky(x)),
    "scan": lambda x: jnp.sin(lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=5)[0]),
    "fft": lambda x: jnp.sin(lax.fft(x, "RFFT", (64,)).real),
    "random_bits": lambda x: x * jax.random.normal(key_from(x), x.shape, x.dtype),
    "io_callback": lambda x: x * io_callback(abs, x, lax.stop_gradient(x)),
}


@pytest.mark.parametrize("thrift", [1.0, 100.0, NEVER])
@pytest.mark.parametrize("name", DEAR)
def test_what_is_dear_is_done_once(name, thrift):
    everything, cut = (
        body_cut(DEAR[name], square, consts=0, carry=0, effort=effort)
        for effort in ("everything", Effort(thrift, operands=True))
    )
    assert again(cut, name) == again(everything, name)


@pytest.mark.parametrize("name", DEAR)
def test_what_is_dear_is_repeated_if_that_is_asked_for_but_no_effect(name):
    everything, cut = (
        body_cut(DEAR[name], square, consts=0, carry=0, effort=effort)
        for effort in ("everything", Effort(NEVER, dear=True))
    )
    more = int(name != "io_callback")
    assert again(cut, name)[0] == again(everything, name)[0] + more


def test_integers_and_booleans():
    """The places of the largest, and what was drawn: as many bytes as their types have."""

    def step(x, key):
        dropped = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0)
        largest = jnp.argmax(lax.sort(x), axis=0)
        return dropped * 2, jnp.sin(x)[largest]

    cut = body_cut(step, square, jax.typeof(jax.random.key(0)), consts=0)
    assert {aval.dtype.kind for aval in cut.saved} == {"b", "i"}
    assert again(cut, "random_bits", "argmax", "sort") == (0, 0, 0)


def test_nothing_of_no_size_is_in_the_way():
    """As cheap to keep as to repeat, whatever a byte costs."""
    for effort in EFFORTS:
        cut = body_cut(lambda x: jnp.sin(jnp.tanh(x)), array(0, 3), consts=0, effort=effort)
        assert cut.gives == (True,)


# --- What its author decided ----------------------------------------------------------------------


def stacked(function, x):
    """How many arrays of all steps the loops of a gradient hand on, the forward loop first."""
    scans = fg.trace(jax.jit(fg.grad(function)))(x).find(fg.at(primitive="scan"))
    steps = [[v.aval.shape for v in node.equation.outvars] for node in scans]
    return [shapes.count((5, *x.shape)) for shapes in steps]


@pytest.mark.parametrize(
    ("policy", "values", "sines"),
    [
        (None, 1, 3),
        (policies.nothing_saveable, 1, 3),
        (policies.save_only_these_names("h"), 2, 2),
        (policies.save_only_these_names("other"), 1, 3),
        (policies.everything_saveable, 4, 2),
    ],
)
def test_the_cut_around_a_checkpoint_does_not_decide_anew(policy, values, sines):
    """The carry is stacked, and what the policy names; a cut would keep nothing but the carry."""

    def step(c, w):
        return jnp.cos(fg.name(jnp.sin(c * w), "h") * c)

    def loop(step):
        return lambda w: jnp.sum(
            lax.scan(lambda c, _: (step(c, w), None), jnp.ones(3), None, length=5)[0]
        )

    x = jnp.ones(3)
    function = loop(jax.checkpoint(step, policy=policy))
    assert stacked(loop(step), x) == [1, 0]
    assert stacked(function, x) == [values, 0]
    found = [node.primitive for node in fg.trace(jax.jit(fg.grad(function)))(x)]
    assert found.count("sin") == sines


def test_a_product_that_is_cheap_to_repeat_is_kept_if_its_author_says_so():
    """And one that is dear is repeated."""

    def kept(policy, width):
        def step(W, x):
            return jax.checkpoint(lambda W, x: jnp.sin(x @ W), policy=policy)(W, x)

        return saved(body_cut(step, array(width, width), array(B, width)))

    assert kept(policies.dots_saveable, NARROW) == [f"float32[{B}, {NARROW}]"]
    assert kept(policies.nothing_saveable, WIDE) == []


# --- In one program of XLA's ----------------------------------------------------------------------


def top_cut(function, *types, effort=None):
    graph = traced(function, types)
    return saving.split(graph, *masks(graph), Settings(fg.rules, effort))


def test_what_a_product_reads_is_in_memory_anyway():
    """gelu x W₁ is an operand of ∂J/∂W₂, and is put in memory for the product with W₂."""
    types = array(B, D), array(D, 64), array(64, D)

    def mlp(x, first, second):
        return jax.nn.gelu(x @ first) @ second

    assert saved(top_cut(mlp, *types)) == [f"float32[{B}, 64]"] * 2
    repeated = top_cut(mlp, *types, effort=Effort(4.0, operands=True))
    assert saved(repeated) == [f"float32[{B}, 64]"]
    assert again(repeated, "tanh") == (1,)


def test_of_a_relu_a_mask_is_kept_besides_what_a_product_reads():
    cut = top_cut(lambda x, V, W: jax.nn.relu(x @ V) @ W, CARRY, W, W)
    assert saved(cut) == [f"bool[{B}, {D}]", f"float32[{B}, {D}]"]


def test_operands_are_looked_for_behind_rearrangements():
    def function(x, y):
        return lax.transpose(jnp.sin(x), (1, 0)) @ jnp.cos(y), jnp.tan(x)

    graph = traced(function, [array(3, 4), array(3, 5)])
    makers = {v: e for e in graph.jaxpr.eqns for v in e.outvars}
    found = operands_of(graph.jaxpr.eqns, makers)
    names = {makers[v].primitive.name for v in found if v in makers}
    assert names == {"transpose", "sin", "cos"}
