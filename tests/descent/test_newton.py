"""Second order: Newton-CG in a trust region, and L-BFGS from gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import fungrad as fg
from fungrad.descent import minimize, newton, newton_cg


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def positive_definite(n, seed=0):
    A = np.random.default_rng(seed).normal(size=(n, n))
    return jnp.asarray(A @ A.T + np.eye(n))


# --- the model within the ball --------------------------------------------------------------------


def best_in_ball(H, g, radius):
    """argmin of g·s + ½ s·Hs in ‖s‖ ≤ Δ, by the secular equation: s = −(H + λ)⁻¹ g."""
    eigenvalues, Q = np.linalg.eigh(H)
    c = Q.T @ g

    def excess(lam):
        return np.linalg.norm(c / (eigenvalues + lam)) - radius

    low = max(0.0, -eigenvalues[0]) + 1e-12
    if eigenvalues[0] > 0 and excess(0.0) <= 0:
        return -Q @ (c / eigenvalues)
    return -Q @ (c / (eigenvalues + scipy.optimize.brentq(excess, low, 1e6)))


def model(H, g, s):
    return g @ s + 0.5 * s @ H @ s


@pytest.mark.parametrize("radius", [0.01, 0.3, 100.0])
@pytest.mark.parametrize("shift", [0.0, -3.0], ids=["convex", "indefinite"])
def test_steihaug_gets_at_least_half_of_the_best_decrease(shift, radius):
    """A convex model falls by at least half of what is possible [yuan2000], any model by at least
    as much as along the gradient alone; inside the ball it is the Newton step."""
    H = np.asarray(positive_definite(6)) + shift * np.eye(6)
    g = np.random.default_rng(1).normal(size=6) * 1e-3 if radius == 100.0 else np.ones(6)
    s, residual = newton._steihaug(lambda v: jnp.asarray(H) @ v, jnp.asarray(g), radius, 50)
    np.testing.assert_allclose(residual, g + H @ s, atol=1e-9)
    best = best_in_ball(H, g, radius)
    lengths = radius * np.geomspace(1e-9, 1.0, 1000)
    along = [model(H, g, -t * g / np.linalg.norm(g)) for t in lengths]
    enough = min(along) * (1 - 1e-9) if shift < 0 else 0.5 * model(H, g, best)
    assert np.linalg.norm(s) <= radius * (1 + 1e-12)
    assert model(H, g, best) * (1 + 1e-9) <= model(H, g, np.asarray(s)) <= enough < 0
    if shift < 0 or radius < 1:
        assert np.linalg.norm(s) == pytest.approx(radius, rel=1e-12)
    else:
        assert np.linalg.norm(residual) <= np.linalg.norm(g) ** 1.5


def test_to_the_boundary():
    s, d = jnp.array([0.3, -0.2]), jnp.array([2.0, 1.0])
    tau = newton._to_boundary(s, d, 1.5)
    assert tau > 0
    assert jnp.linalg.norm(s + tau * d) == pytest.approx(1.5, rel=1e-14)


# --- descent --------------------------------------------------------------------------------------


def test_a_quadratic_takes_one_step_once_the_ball_is_wide():
    A = positive_definite(5)
    b = jnp.arange(5.0)
    descent = minimize(
        lambda x: 0.5 * x @ A @ x - b @ x,
        jnp.zeros(5),
        optimizer=newton_cg(radius=1e3),
        steps=12,
    )
    np.testing.assert_allclose(descent.params, np.linalg.solve(A, b), rtol=1e-9)


def test_rosenbrock_in_six_dimensions():
    start = jnp.array([-1.2, 1.0, -0.5, 0.8, 0.3, -0.7])
    descent = minimize(rosenbrock, start, optimizer=newton_cg(), steps=200, tolerance=1e-15)
    np.testing.assert_allclose(descent.params, 1.0, rtol=1e-7)
    assert descent.converged
    assert descent.steps < 60
    assert np.all(np.diff(descent.history) <= 0)
    # Superlinear at the end: the last factors fall.
    factors = descent.history[1:] / np.maximum(descent.history[:-1], 1e-300)
    assert factors[factors > 0][-3:].min() < 1e-3


def test_a_saddle_is_left_along_negative_curvature():
    """J = x⁴/4 − x²/2 + y²: the gradient alone would go to (0, 0); minima are at x = ±1."""
    descent = minimize(
        lambda p: p[0] ** 4 / 4 - p[0] ** 2 / 2 + p[1] ** 2,
        jnp.array([1e-6, 1.0]),
        optimizer=newton_cg(),
        steps=25,
    )
    np.testing.assert_allclose(np.abs(descent.params), [1.0, 0.0], atol=1e-9)


def test_a_step_out_of_the_domain_shrinks_the_ball():
    """x − log x is not finite for x ≤ 0; the model's first step would go there."""
    descent = minimize(
        lambda x: jnp.sum(x - jnp.log(x)), jnp.array([5.0]), optimizer=newton_cg(1e3), steps=15
    )
    assert descent.failure is None
    np.testing.assert_allclose(descent.params, 1.0, rtol=1e-9)


def test_the_minimum_is_kept():
    descent = minimize(lambda x: jnp.sum(x**2), jnp.zeros(2), optimizer=newton_cg(), steps=3)
    assert descent.params.tolist() == [0.0, 0.0]
    assert descent.history.tolist() == [0.0, 0.0, 0.0]


def test_a_pytree_with_data_and_rules():
    random = np.random.default_rng(0)
    x, w = random.normal(size=(64, 3)), np.array([1.0, -2.0, 0.5])
    y = (x @ w > 0).astype(float)
    book = fg.rules.replace({"tanh": lambda g, out, x: g * (1 - out * out)})

    def cost(params, batch):
        logit = batch[0] @ params["w"] + jnp.tanh(params["b"])
        return (
            jnp.mean(fg.losses.binary_cross_entropy(logit, batch[1]))
            + 0.01 * params["w"] @ params["w"]
        )

    params = {"w": jnp.zeros(3), "b": jnp.zeros(())}
    descent = minimize(cost, params, (x, y), optimizer=newton_cg(), steps=20, rules=book)
    gradient = jax.grad(cost)(descent.params, (x, y))
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) < 1e-8


def test_single_precision_stays_single():
    start = jnp.zeros(3, jnp.float32)
    descent = minimize(lambda x: jnp.sum((x - 3.0) ** 2), start, optimizer=newton_cg(), steps=8)
    assert descent.params.dtype == jnp.float32
    np.testing.assert_allclose(descent.params, 3.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"radius": 0.0}, "radius must be positive, got 0.0"), ({"cg_steps": 0}, "cg_steps must be")],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        newton_cg(**arguments)


# --- L-BFGS ---------------------------------------------------------------------------------------


def test_lbfgs_goes_down_the_valley():
    descent = minimize(
        rosenbrock, jnp.array([-1.2, 1.0]), optimizer=optax.lbfgs(), steps=200, tolerance=1e-15
    )
    assert descent.converged
    assert descent.failure is None
    np.testing.assert_allclose(descent.params, 1.0, rtol=1e-6)
