"""Linear equations whose matrix is a triangle, three diagonals, or a function."""

from functools import partial
from itertools import product

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad.rules.matrices import identity
from tests.rules.grids import STRICT, assert_agree, complex_normal, normal, stacked


def triangle(x):
    return x / 2 + 2 * identity(x)


def triangles(array, flags=("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")):
    for values in product((False, True), repeat=len(flags)):
        solve = partial(lax.linalg.triangular_solve, **dict(zip(flags, values, strict=True)))
        yield solve, triangle(array(2, 2)), array(2, 2)


def tridiagonals(array):
    for batch in ((), (2,)):
        below, middle, above = array(*batch, 4), array(*batch, 4) + 4, array(*batch, 4)
        yield lax.linalg.tridiagonal_solve, below, middle, above, array(*batch, 4, 2)


def direct(matvec, b):
    return jnp.linalg.solve(jax.jacobian(matvec, holomorphic=jnp.iscomplexobj(b))(b), b)


def solve(w, b, **how):
    """(diag(exp w) + w 1ᵀ)⁻¹ b"""
    how = {"solve": direct, "transpose_solve": direct} | how
    return lax.custom_linear_solve(lambda z: jnp.exp(w) * z + w * jnp.sum(z), b, **how)


def of_trees(w, b):
    """Two unknown vectors, one of which meets w, and what the solver tells besides."""

    def matvec(z):
        return {"x": z["x"] * w + z["y"], "y": 2 * z["y"] - z["x"]}

    def dense(matvec, b):
        determinant = 2 * w + 1
        x, y = 2 * b["x"] - b["y"], b["x"] + w * b["y"]
        return {"x": x / determinant, "y": y / determinant}, jnp.sum(determinant)

    def transposed(vecmat, b):
        determinant = 2 * w + 1
        x, y = 2 * b["x"] + b["y"], w * b["y"] - b["x"]
        return {"x": x / determinant, "y": y / determinant}, jnp.sum(determinant)

    b = {"x": b, "y": jnp.sin(b)}
    return lax.custom_linear_solve(matvec, b, dense, transposed, has_aux=True)


def iterated(w, b):
    """A symmetric A and a solver without a derivative."""
    a = jnp.diag(2 + w * w)
    return jax.scipy.sparse.linalg.cg(lambda z: a @ z, b)[0]


def root(w):
    """z with z³ + z = w"""
    return lax.custom_root(
        lambda z: z**3 + z - w,
        jnp.zeros_like(w),
        lambda f, z: lax.fori_loop(0, 30, lambda _, z: z - f(z) / (3 * z * z + 1), z),
        lambda g, y: y / g(jnp.ones_like(y)),
    )


FUNCTIONS = [(solve, normal(3), normal(3)), (of_trees, jnp.exp(normal(3)), normal(3))]


def test_triangles():
    assert_agree([*triangles(complex_normal), *triangles(normal, ("left_side", "transpose_a"))])


def test_diagonals():
    assert_agree([*tridiagonals(normal), *list(tridiagonals(complex_normal))[:1]])


def test_functions():
    cases = [*FUNCTIONS, (solve, complex_normal(3), complex_normal(3))]
    cases += [(lambda w: solve(w, jnp.ones(3)), normal(3)), (iterated, normal(3), normal(3))]
    cases += [
        (partial(solve, normal(3)), normal(3)),
        (lambda a, b: jnp.linalg.solve(a.T, b), triangle(normal(2, 2)), normal(2)),
    ]
    assert_agree(cases)


def test_second_and_third_order():
    few = list(triangles(normal, ("left_side", "lower")))[:2]
    assert_agree([*few, *tridiagonals(normal), *FUNCTIONS], times=2)
    assert_agree([*few[:1], *FUNCTIONS[:1]], times=3)


def test_vmap():
    few = list(triangles(normal, ("left_side", "lower")))[:1]
    assert_agree(stacked([*few, next(tridiagonals(normal)), *FUNCTIONS]), batched=True)


def test_under_control_flow_and_jvp():
    def loop(w, b):
        return lax.scan(lambda b, w: (jax.checkpoint(solve)(w, b), b), b, jnp.stack([w, 2 * w]))[0]

    def along(w, b):
        return jax.jvp(solve, (w, b), (b, w))[1]

    assert_agree([(loop, *FUNCTIONS[0][1:]), (along, *FUNCTIONS[0][1:])])


def test_in_a_tangent_graph_the_right_hand_side_is_unknown():
    a = triangle(normal(2, 2))
    solvers = [jnp.linalg.solve, partial(lax.linalg.triangular_solve, left_side=True)]
    solvers += [lambda a, b: lax.linalg.tridiagonal_solve(a[0], a[1], a[0], b)]

    def at(solve):
        @jax.custom_jvp
        def f(b):
            return jnp.sin(solve(a, b))

        @f.defjvp
        def f_jvp(primals, tangents):
            return f(*primals), 3 * jnp.cos(solve(a, primals[0])) * solve(a, tangents[0])

        return f

    assert_agree([(at(solve), normal(2, 1)) for solve in solvers])


def test_a_root_moves_as_the_implicit_function_theorem_says():
    w = jnp.array([0.3, -2.0])
    z = root(w)
    np.testing.assert_allclose(fg.grad(lambda w: jnp.sum(root(w)))(w), 1 / (3 * z * z + 1))


def test_without_a_transposed_solver_the_error_says_what_to_do():
    forward_only = partial(solve, transpose_solve=None)
    with pytest.raises(TypeError, match=r"transpose_solve required.*test_solves.*symmetric=True"):
        fg.grad(lambda b: jnp.sum(forward_only(normal(3), b)), rules=STRICT)(normal(3))
