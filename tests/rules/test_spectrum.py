"""eigh, eig and svd: every flag, equal values, what is refused, functions built on them."""

from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad.rules.matrices import adjoint, spread
from tests.rules.grids import STRICT, assert_agree, complex_normal, normal, stacked

eigh, svd = lax.linalg.eigh, lax.linalg.svd
as_given = partial(eigh, symmetrize_input=False)
thin = partial(svd, full_matrices=False)


def eig(left, right, **how):
    sides = {"compute_left_eigenvectors": left, "compute_right_eigenvectors": right}
    return partial(lax.linalg.eig, **sides, **how)


def hermitian(x):
    return (x + adjoint(x)) / 2


def turning(x):
    """With a pair of eigenvalues that are conjugates, if x is real."""
    return spread(x).at[0, 1].set(9).at[1, 0].set(-9)


def eighs(array):
    yield as_given, hermitian(spread(array(2, 3, 3)))
    yield partial(as_given, lower=False, subset_by_index=(0, 2)), hermitian(spread(array(2, 2)))
    yield jnp.linalg.eigvalsh, array(3, 3)


def eigs(array):
    yield eig(True, True, enable_eigvec_derivs=True), turning(array(3, 3))
    yield eig(True, False, enable_eigvec_derivs=True), turning(array(3, 3))
    yield eig(False, False), turning(array(3, 3))


def svds(array):
    yield thin, spread(array(2, 4, 2))
    yield thin, spread(array(2, 4))
    yield partial(svd, compute_uv=False), array(3, 2)


def functions():
    """What is written with these decompositions, and what asks for the values alone."""
    yield jnp.linalg.pinv, normal(3, 2)
    yield lambda x: jnp.linalg.norm(x, "nuc"), normal(2, 3)
    yield lambda x: thin(x)[1], normal(3, 2)
    yield lambda x: eigh(x)[1], jnp.ones((3, 3))
    yield lambda x: svd(x)[1], jnp.ones((2, 2))


def test_eigh_eig_and_svd():
    for cases in (eighs, eigs, svds):
        assert_agree([*cases(normal), *list(cases(complex_normal))[:1]])


def test_what_is_built_on_them_also_at_equal_values():
    assert_agree(functions())


def test_second_and_third_order():
    values = eig(False, False, enable_eigvec_derivs=True)
    cases = [(jnp.linalg.eigvalsh, normal(2, 2)), (lambda x: svd(x)[1], normal(2, 2))]
    cases += [(eigh, spread(normal(2, 2))), (thin, spread(normal(3, 2)))]
    assert_agree([*cases, (values, spread(normal(2, 2)))], times=2)
    assert_agree(cases[:2], times=3)


def test_vmap():
    cases = [(eigh, spread(normal(2, 2))), (thin, spread(normal(3, 2)))]
    assert_agree(stacked([*cases, (eig(False, False), spread(normal(2, 2)))]), batched=True)


def test_the_values_alone_are_differentiated_where_jax_refuses():
    """JAX's rules are of all outputs at once, ours of those at which a gradient arrives."""

    def sums(vectors, values):
        return lambda a: jnp.sum(jnp.abs(vectors(a)[values]) ** 3)

    a = spread(normal(3, 2))
    safe = sums(eig(False, False, enable_eigvec_derivs=True), 0)
    pairs = [
        (fg.grad(sums(svd, 1), rules=STRICT), jax.grad(sums(thin, 1)), a),
        (fg.grad(sums(eig(False, True), 0), rules=STRICT), jax.grad(safe), a[:2]),
        (fg.jacrev(fg.grad(sums(eig(False, False), 0))), jax.hessian(safe), a[:2]),
    ]
    numbers = jax.jit(lambda: [(ours(a), theirs(a)) for ours, theirs, a in pairs])()
    for ours, theirs in numbers:
        np.testing.assert_allclose(ours, theirs, 1e-12, 1e-15)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda a: jnp.sum(svd(a[:, :1])[0]), "not implemented for full matrices"),
        (lambda a: jnp.sum(jnp.abs(eig(False, True)(a)[1])), "enable_eigvec_derivs=True"),
        (lambda a: jnp.sum(eigh(a, subset_by_index=(0, 1))[0]), "partial eigen"),
    ],
    ids=["null space", "eigenvectors", "subset"],
)
def test_what_has_no_derivative_is_refused(function, words):
    with pytest.raises(NotImplementedError, match=words):
        jax.make_jaxpr(fg.grad(function))(spread(normal(2, 2)))
