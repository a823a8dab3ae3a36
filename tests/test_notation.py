"""The lecture's matrix calculus against loops over single entries and against jax.jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fungrad import notation

EXACT = {"rtol": 1e-14, "atol": 1e-14}

lengths = st.integers(1, 3)
entries = st.floats(-2.0, 2.0, width=32)
vectors = lengths.flatmap(lambda n: arrays.arrays(np.float64, n, elements=entries))
matrices = st.tuples(lengths, lengths).flatmap(
    lambda shape: arrays.arrays(np.float64, shape, elements=entries)
)
few = settings(max_examples=10, deadline=None)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape)


def probabilities(n):
    return np.asarray(jax.nn.softmax(drawn(n)))


def jacobian(function, x):
    """∂vec(function(x))/∂vec(x) [m × n], by JAX."""
    return np.reshape(jax.jacobian(function)(x), (np.size(function(x)), np.size(x)))


# ---- operators -----------------------------------------------------------------------------------


def test_vec_stacks_rows():
    W = drawn(3, 4)
    v = notation.vec(W)
    for i in range(3):
        for j in range(4):
            assert v[4 * i + j] == W[i, j]


@few
@given(matrices)
def test_unvec_undoes_vec(W):
    np.testing.assert_array_equal(notation.unvec(notation.vec(W), W.shape), W)


def test_kron_by_entries():
    A, B = drawn(2, 3), drawn(4, 5, seed=1)
    expected = np.zeros((8, 15))
    for i in range(2):
        for j in range(3):
            for k in range(4):
                for m in range(5):
                    expected[4 * i + k, 5 * j + m] = A[i, j] * B[k, m]
    np.testing.assert_array_equal(notation.kron(A, B), expected)


@few
@given(matrices, matrices, st.data())
def test_vec_of_a_product(A, B, data):
    """vec(A X B) = (A ⊗ Bᵀ) vec(X)"""
    shape = (A.shape[1], B.shape[0])
    X = data.draw(arrays.arrays(np.float64, shape, elements=entries))
    product = notation.kron(A, B.T) @ notation.vec(X)
    np.testing.assert_allclose(product, notation.vec(A @ X @ B), rtol=1e-13, atol=1e-13)


@few
@given(matrices, matrices, st.data())
def test_kron_of_products(A, B, data):
    """(A ⊗ B)(C ⊗ D) = AC ⊗ BD"""
    C = data.draw(arrays.arrays(np.float64, (A.shape[1], 2), elements=entries))
    D = data.draw(arrays.arrays(np.float64, (B.shape[1], 3), elements=entries))
    left = notation.kron(A, B) @ notation.kron(C, D)
    np.testing.assert_allclose(left, notation.kron(A @ C, B @ D), rtol=1e-13, atol=1e-13)


@few
@given(vectors, vectors)
def test_diag_multiplies_entry_by_entry(v, w):
    w = np.resize(w, v.shape)
    np.testing.assert_array_equal(notation.diag(v) @ w, v * w)
    assert notation.diag(v).shape == (v.size, v.size)


# ---- how a page writes them ----------------------------------------------------------------------


def test_as_matrix_has_one_row_per_output():
    A = drawn(2, 3)
    J = jax.jacobian(lambda A: A.T @ A)(A)
    M = notation.as_matrix(J, (3, 3))
    assert M.shape == (9, 6)
    assert M[3 * 1 + 2, 3 * 0 + 1] == J[1, 2, 0, 1]


def test_rows_and_columns():
    x = drawn(2, 3)
    assert notation.row(x).shape == (1, 6)
    np.testing.assert_array_equal(notation.column(x), notation.row(x).T)


@pytest.mark.parametrize(
    ("shape", "text"),
    [((), "[1]"), ((3,), "[3]"), ((2, 3), "[2 × 3]"), ((2, 0, 4), "[2 × 0 × 4]")],
)
def test_size(shape, text):
    assert notation.size(np.zeros(shape)) == text
    assert notation.size(jax.ShapeDtypeStruct(shape, jnp.float32)) == text


@pytest.mark.parametrize("shape", [(3, 2), (4,), ()])
def test_update_steps_along_the_gradient(shape):
    W, g = drawn(*shape), drawn(*shape, seed=1)
    stepped = notation.update(W, notation.lecture_layout(g), eta=-0.5)
    assert stepped.shape == W.shape
    np.testing.assert_array_equal(stepped, W - 0.5 * g)


def test_lecture_layout_is_input_times_gradient():
    """z = W x: ∂J/∂W = x g [n × m], g a row [1 × m]."""
    W, x, g = drawn(2, 3), drawn(3, seed=1), drawn(2, seed=2)
    gradient = jax.vjp(lambda W: W @ x, W)[1](g)[0]
    product = notation.column(x) @ notation.row(g)
    np.testing.assert_allclose(notation.lecture_layout(gradient), product, **EXACT)


# ---- Jacobians of the standard steps -------------------------------------------------------------


def test_linear_by_entries():
    W, x = drawn(2, 3), drawn(3, seed=1)
    by = notation.linear_jacobians(W, x)
    for i in range(2):
        for k in range(2):
            assert by.b[i, k] == float(i == k)
            for j in range(3):
                assert by.x[i, j] == W[i, j]
                assert by.W[i, 3 * k + j] == (x[j] if i == k else 0.0)


@few
@given(matrices, st.data())
def test_linear_against_jax(W, data):
    x = data.draw(arrays.arrays(np.float64, W.shape[1], elements=entries))
    b = np.ones(W.shape[0])
    by = notation.linear_jacobians(W, x)
    np.testing.assert_allclose(by.x, jacobian(lambda x: W @ x + b, x), **EXACT)
    np.testing.assert_allclose(by.W, jacobian(lambda W: W @ x + b, W), **EXACT)
    np.testing.assert_allclose(by.b, jacobian(lambda b: W @ x + b, b), **EXACT)
    np.testing.assert_allclose(by.W @ notation.vec(W), W @ x, **EXACT)


def test_product_by_entries():
    A, B = drawn(2, 3), drawn(3, 4, seed=1)
    by = notation.product_jacobians(A, B)
    for i in range(2):
        for j in range(4):
            for k in range(3):
                for other in range(2):
                    expected = B[k, j] if i == other else 0.0
                    assert by.A[4 * i + j, 3 * other + k] == expected
                for other in range(4):
                    expected = A[i, k] if j == other else 0.0
                    assert by.B[4 * i + j, 4 * k + other] == expected


@few
@given(matrices, st.data())
def test_product_against_jax(A, data):
    B = data.draw(arrays.arrays(np.float64, (A.shape[1], 3), elements=entries))
    by = notation.product_jacobians(A, B)
    np.testing.assert_allclose(by.A, jacobian(lambda A: A @ B, A), **EXACT)
    np.testing.assert_allclose(by.B, jacobian(lambda B: A @ B, B), **EXACT)


def test_elementwise():
    x = drawn(2, 3)
    slope = 1 - np.tanh(x) ** 2
    expected = jacobian(jnp.tanh, x)
    np.testing.assert_allclose(notation.elementwise_jacobian(slope), expected, **EXACT)


def test_softmax():
    s = drawn(4)
    p = jax.nn.softmax(s)
    J = notation.softmax_jacobian(p)
    for i in range(4):
        for j in range(4):
            expected = p[i] * (1 - p[i]) if i == j else -p[i] * p[j]
            np.testing.assert_allclose(J[i, j], expected, **EXACT)
    np.testing.assert_allclose(J, jacobian(jax.nn.softmax, s), **EXACT)


def test_log_softmax():
    s = drawn(4)
    J = notation.log_softmax_jacobian(jax.nn.softmax(s))
    np.testing.assert_allclose(J, jacobian(jax.nn.log_softmax, s), **EXACT)


def test_cross_entropy():
    p, y = probabilities(4), np.eye(4)[2]
    J = notation.cross_entropy_jacobian(p, y)
    np.testing.assert_allclose(J, [[0, 0, -1 / p[2], 0]], **EXACT)
    np.testing.assert_allclose(J, jacobian(lambda p: -jnp.log(y @ p), p), **EXACT)


def test_cross_entropy_behind_softmax():
    p, y = probabilities(4), np.eye(4)[2]
    product = notation.cross_entropy_jacobian(p, y) @ notation.softmax_jacobian(p)
    np.testing.assert_allclose(product, notation.row(p - y), **EXACT)


def test_squared_norm():
    W = drawn(2, 3)
    expected = jacobian(lambda W: jnp.sum(W * W), W)
    np.testing.assert_allclose(notation.squared_norm_jacobian(W), expected, **EXACT)


def test_the_regularised_classifier():
    """J = −log(yᵀ softmax(W x + b)) + λ Σ W², its chain of Jacobians written out."""
    W, x, b, y, decay = drawn(3, 4), drawn(4, seed=1), drawn(3, seed=2), np.eye(3)[1], 0.1

    def cost(W, b):
        return -jnp.log(y @ jax.nn.softmax(W @ x + b)) + decay * jnp.sum(W * W)

    p = jax.nn.softmax(W @ x + b)
    by = notation.linear_jacobians(W, x)
    g = notation.cross_entropy_jacobian(p, y) @ notation.softmax_jacobian(p)
    expected_W, expected_b = jax.grad(cost, argnums=(0, 1))(W, b)
    gradient = g @ by.W + decay * notation.squared_norm_jacobian(W)
    np.testing.assert_allclose(notation.unvec(gradient[0], W.shape), expected_W, **EXACT)
    np.testing.assert_allclose(g @ by.b, notation.row(expected_b), **EXACT)


# ---- dtypes, transforms, errors ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64", "complex128"])
def test_dtypes_are_kept(dtype):
    W, v = jnp.ones((2, 3), dtype), jnp.ones(3, dtype)
    results = [
        notation.kron(W, W),
        notation.diag(v),
        *notation.linear_jacobians(W, v),
        *notation.product_jacobians(W, W.T),
        notation.softmax_jacobian(v),
        notation.log_softmax_jacobian(v),
        notation.cross_entropy_jacobian(v, v),
        notation.squared_norm_jacobian(W),
        notation.update(W, notation.lecture_layout(W), eta=0.5),
    ]
    assert {str(result.dtype) for result in results} == {dtype}


def test_under_jit_vmap_and_grad():
    W, xs = drawn(2, 3), drawn(5, 3, seed=1)
    by = jax.jit(jax.vmap(notation.linear_jacobians, (None, 0)))(W, xs)
    assert by.W.shape == (5, 2, 6)
    slope = jax.grad(lambda p: jnp.sum(notation.softmax_jacobian(p) ** 2))(xs[0])
    assert np.isfinite(slope).all()


ONES = np.ones


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: notation.unvec(ONES(5), (2, 3)), r"v has 5 entries, .*\[2 × 3\] has 6"),
        (lambda: notation.unvec(ONES((2, 3)), (6,)), r"unvec: v has shape \(2, 3\)"),
        (lambda: notation.kron(ONES(2), ONES((2, 2))), r"kron: A has shape \(2,\).*a matrix"),
        (lambda: notation.kron(ONES((2, 2)), 1.0), r"kron: B has shape \(\)"),
        (lambda: notation.diag(ONES((2, 2))), r"diag: v has shape \(2, 2\).*flatten"),
        (lambda: notation.as_matrix(ONES((2, 3)), (3,)), r"does not begin with .*\(3,\)"),
        (lambda: notation.lecture_layout(ONES((2, 3, 4))), r"3 axes \[2 × 3 × 4\]"),
        (lambda: notation.update(ONES((2, 3)), ONES((2, 3)), 0.1), r"\[3 × 2\].*is \[2 × 3\]"),
        (lambda: notation.update(ONES(2), ONES(2), 0.1), r"\[1 × 2\].*is \[2\]"),
        (lambda: notation.linear_jacobians(ONES((2, 3)), ONES(2)), r"x has 2 .*W \[2 × 3\] .* 3"),
        (lambda: notation.linear_jacobians(ONES(3), ONES(3)), r"W has shape \(3,\)"),
        (lambda: notation.product_jacobians(ONES((2, 3)), ONES((2, 3))), "3 columns.*2 rows"),
        (lambda: notation.softmax_jacobian(ONES((2, 2))), r"p has shape \(2, 2\)"),
        (lambda: notation.log_softmax_jacobian(1.0), r"p has shape \(\)"),
        (lambda: notation.cross_entropy_jacobian(ONES(3), ONES(2)), "y has 2 entries, .* 3"),
    ],
)
def test_shape_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
