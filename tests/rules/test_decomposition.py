"""Cholesky, LU and QR: every shape and flag, halves that nobody reads, functions built on them."""

from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad.rules.matrices import adjoint, dot, identity, regular
from tests.rules.grids import (
    STRICT,
    assert_agree,
    assert_differences,
    complex_normal,
    normal,
    stacked,
)

qr = jnp.linalg.qr
half_read = partial(lax.linalg.cholesky, symmetrize_input=False)


def positive(x):
    return dot(x, adjoint(x)) + identity(x)


def choleskys(array):
    yield lax.linalg.cholesky, positive(array(3, 3))
    yield half_read, positive(array(2, 3, 3))
    yield jax.scipy.linalg.cholesky, positive(array(3, 3))


def lus(array):
    for shape in ((4, 2), (2, 2, 4), (0, 0)):
        yield lax.linalg.lu, regular(array(*shape))


def qrs(array):
    yield partial(qr, mode="complete"), regular(array(2, 4, 2))
    yield partial(qr, mode="reduced"), regular(array(4, 2))
    yield partial(qr, mode="r"), regular(array(2, 2, 3))
    yield pivoted(True), regular(array(3, 2))


def pivoted(full):
    return partial(lax.linalg.qr, pivoting=True, full_matrices=full)


def functions():
    """What is written with these decompositions."""
    a, b = regular(normal(3, 3)), normal(3)
    yield jnp.linalg.solve, a, b
    yield jnp.linalg.inv, a
    yield jnp.linalg.slogdet, a
    yield lambda a, b: jax.scipy.linalg.lu_solve(jax.scipy.linalg.lu_factor(a), b), a, b
    yield lambda a, b: jnp.linalg.lstsq(a, b)[0], regular(normal(4, 2)), normal(4)


def test_cholesky_lu_and_qr():
    for cases in (choleskys, lus, qrs):
        assert_agree([*cases(normal), *list(cases(complex_normal))[1:2]])


def test_what_is_built_on_them():
    assert_agree(functions())


def test_second_and_third_order():
    cases = [(half_read, positive(normal(2, 2))), (lax.linalg.lu, regular(normal(3, 2)))]
    cases += [(partial(qr, mode="complete"), regular(normal(3, 2)))]
    assert_agree(cases, times=2)
    assert_agree(cases[:1], times=3)


def test_vmap():
    cases = [
        (lambda x: lax.linalg.cholesky(positive(x)), normal(2, 2)),
        (qr, regular(normal(2, 3))),
    ]
    assert_agree(stacked([*cases, (lax.linalg.lu, regular(normal(3, 2)))]), batched=True)


def test_the_upper_half_of_cholesky_is_not_read():
    a = positive(normal(3, 3))
    spoiled = jnp.where(jnp.tri(3, dtype=bool), a, jnp.nan)

    def diagonal(a):
        return jnp.sum(jnp.sin(jnp.diagonal(lax.linalg.cholesky_p.bind(a))))

    np.testing.assert_array_equal(fg.grad(diagonal)(spoiled), fg.grad(diagonal)(a))


def test_cholesky_of_no_positive_matrix_is_nan():
    assert np.isnan(
        fg.grad(lambda a: lax.linalg.cholesky(a)[0, 0], rules=STRICT)(-jnp.eye(2))
    ).all()


def test_pivoted_qr_of_wide_matrices_and_of_batches():
    """JAX's rule takes the columns of a wide matrix before they are exchanged."""
    assert_differences(lambda a: jnp.concatenate(pivoted(False)(a)[:2], 1), regular(normal(2, 4)))
    a = regular(normal(2, 3, 2))

    def gradient(a):
        out, pullback = fg.vjp(lambda a: pivoted(True)(a)[0], a)
        return pullback(jnp.cos(out))[0]

    whole, parts = jax.jit(lambda a: (gradient(a), jnp.stack([gradient(x) for x in a])))(a)
    np.testing.assert_allclose(whole, parts, rtol=1e-12)
