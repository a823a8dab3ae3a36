"""Every gap has its reason proven: what JAX's own rule answers, or that no program holds it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import hijax, layout, pallas, sparse
from jax.experimental.pallas import mosaic_gpu, tpu, triton
from jax.experimental.sparse.linalg import spsolve

import fungrad as fg
from fungrad.rulebook import Gap

BOTH = (fg.grad, jax.grad)
GAPS = {rule.primitive for rule in fg.rules if isinstance(rule, Gap)}
X = np.array([0.5, -0.3, 0.8])
DENSE = np.arange(1.0, 7.0).reshape(2, 3)
ROWS, COLUMNS, STARTS = np.array([0, 1, 1]), np.array([1, 0, 2]), np.array([0, 1, 3])


def kernel_call(kernel, x):
    return pallas.pallas_call(kernel, jax.typeof(x), interpret=True)(x)


def double(x_ref, z_ref):
    z_ref[...] = 2 * x_ref[...]


def masked_copy(x_ref, z_ref):
    mask = x_ref[...] > 0
    z_ref[...] = triton.load(x_ref.at[:], mask=mask, other=0.0)
    triton.store(z_ref.at[:], x_ref[...], mask=mask)


def on_a_mesh(x):
    mesh = mosaic_gpu.Mesh(grid=(1,), grid_names=("i",))
    return pallas.kernel(double, mesh=mesh, out_type=jax.typeof(x))(x)


def foreign(x):
    return jax.ffi.ffi_call("a_foreign_function", jax.typeof(x))(x)


class Cube(getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive):
    """x ↦ x³ as a primitive of a user's."""

    def __init__(self, aval):
        self.in_avals, self.out_aval, self.params = (aval,), aval, {}
        super().__init__()

    def expand(self, x):
        return x**3

    def vjp_fwd(self, differentiated, x):
        return self(x), x

    def vjp_bwd_retval(self, x, g):
        return (3 * x**2 * g,)


def cube(x):
    return Cube(jax.typeof(x))(x)


def of_entries(kind, function):
    """The function of the matrix that has the entries x at (0, 1), (1, 0), (1, 2)."""
    parts = {
        sparse.BCOO: (np.stack([ROWS, COLUMNS], 1),),
        sparse.BCSR: (COLUMNS, STARTS),
        sparse.COO: (ROWS, COLUMNS),
        sparse.CSR: (COLUMNS, STARTS),
    }
    return lambda x: function(kind((x, *map(jnp.asarray, parts[kind])), shape=(2, 3)))


def extracted(x):
    return sparse.bcoo_extract(sparse.BCOO.fromdense(jnp.ones((2, 3)), nse=6), x).data


def sampled(x):
    at, dimensions = jnp.array([[0, 1], [1, 0]]), (((1,), (1,)), ((), ()))
    return sparse.bcoo_dot_general_sampled(x, x, at, dimension_numbers=dimensions)


KINDS = (sparse.BCOO, sparse.BCSR, sparse.COO, sparse.CSR)
PROGRAMS = {
    "pallas_call": (lambda x: kernel_call(double, x), X),
    "mpmd_map": (on_a_mesh, X),
    "masked_load": (lambda x: kernel_call(masked_copy, x), X),
    "masked_swap": (lambda x: kernel_call(masked_copy, x), X),
    "ffi_call": (foreign, X),
    "with_memory_space_constraint": (
        lambda x: tpu.with_memory_space_constraint(x, tpu.HBM),
        X,
    ),
    "call_hi_primitive": (cube, X),
    "todense": (sparse.todense, X),
    "spsolve": (lambda x: spsolve(x, jnp.arange(3), jnp.arange(4), jnp.ones(3)), X),
    **{
        f"{kind.__name__.lower()}_todense": (of_entries(kind, lambda m: m.todense()), X)
        for kind in KINDS
    },
    **{
        f"{kind.__name__.lower()}_fromdense": (lambda x, k=kind: k.fromdense(x, nse=6).data, DENSE)
        for kind in KINDS
    },
    "bcoo_dot_general": (of_entries(sparse.BCOO, lambda m: m @ jnp.ones(3)), X),
    "bcsr_dot_general": (of_entries(sparse.BCSR, lambda m: m @ jnp.ones(3)), X),
    "coo_matvec": (of_entries(sparse.COO, lambda m: m @ jnp.ones(3)), X),
    "csr_matvec": (of_entries(sparse.CSR, lambda m: m @ jnp.ones(3)), X),
    "coo_matmat": (of_entries(sparse.COO, lambda m: m @ jnp.ones((3, 2))), X),
    "csr_matmat": (of_entries(sparse.CSR, lambda m: m @ jnp.ones((3, 2))), X),
    "bcoo_spdot_general": (of_entries(sparse.BCOO, lambda m: (m @ m.T).data), X),
    "bcoo_transpose": (of_entries(sparse.BCOO, lambda m: m.T.data), X),
    "bcoo_sort_indices": (of_entries(sparse.BCOO, lambda m: m.sort_indices().data), X),
    "bcoo_sum_duplicates": (of_entries(sparse.BCOO, lambda m: m.sum_duplicates(nse=3).data), X),
    "bcoo_extract": (extracted, DENSE),
    "bcsr_extract": (
        lambda x: sparse.bcsr_extract(jnp.asarray(COLUMNS), jnp.asarray(STARTS), x),
        DENSE,
    ),
    "bcoo_dot_general_sampled": (sampled, DENSE),
}
INTERNAL = {
    *("to_edtype", "from_edtype", "tie", "relayout", "accum_grad_in_ref"),
    *("new_box", "box_get", "box_set", "new_log", "log_read", "log_extend"),
}
NOWHERE = {"get_global", "call_hi_primitive_linearized", "stage"}


def test_every_gap_is_proven():
    assert set(PROGRAMS) | INTERNAL | NOWHERE == GAPS


def answer(grad, function, x):
    """The gradient, or the error, as text."""
    try:
        return jax.jit(grad(lambda x: jnp.sum(function(x) * 1.5)))(x)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*COO:UserWarning")
def test_jax_answers(name):
    function, x = PROGRAMS[name]
    assert name in {node.primitive for node in fg.trace(function)(x)}
    ours, theirs = (answer(grad, function, x) for grad in BOTH)
    assert type(ours) is type(theirs)
    np.testing.assert_array_equal(ours, theirs)


def test_masked_loads_stand_in_kernels_only():
    with pytest.raises(NotImplementedError):
        triton.load(jax.new_ref(jnp.asarray(X)).at[:], mask=jnp.array([True, True, False]))


def test_global_memory_exists_in_kernels_only():
    answers = [answer(grad, lambda x: pallas.get_global(jax.typeof(x)), X) for grad in BOTH]
    assert answers[0] == answers[1]
    assert "Error" in answers[0]


def test_a_pullback_holds_no_linearized_primitive():
    graph = fg.trace(lambda x, g: jax.vjp(cube, x)[1](g))(X, X)
    assert "call_hi_primitive_linearized" not in {node.primitive for node in graph}


def test_no_graph_holds_a_stage():
    graph = fg.trace(lambda x: jax.lax.stage(x) + jax.lax.stage(2.0))(X)
    assert [node.primitive for node in graph] == ["add"]


def test_what_is_internal_has_no_public_name():
    modules = (jax.lax, jax.dtypes, jax.sharding, layout, hijax, pallas)
    names = {name for module in modules for name in vars(module) if not name.startswith("_")}
    assert not names & {"Box", "Log", "ExtendedDType", "primal_tangent_dtype"} | INTERNAL & names


def test_a_strict_book_refuses_a_gap_with_its_reason():
    strict = fg.rules.replace({}, strict=True)
    with pytest.raises(
        fg.MissingRuleError, match=r"'call_hi_primitive' at .*author gave it a rule"
    ):
        fg.vjp(cube, X, rules=strict)


def test_a_gap_inside_of_a_call():
    ours, theirs = (grad(lambda x: jnp.sin(jax.jit(cube)(x)).sum())(X) for grad in BOTH)
    np.testing.assert_allclose(ours, theirs, rtol=1e-15)
    value, _ = fg.values(lambda x: jax.jit(cube)(jax.lax.stop_gradient(x)).sum())(X)
    np.testing.assert_allclose(value, jnp.sum(X**3), rtol=1e-12)
