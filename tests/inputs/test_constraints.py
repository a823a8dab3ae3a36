"""Balls and boxes against slow and obvious ways to the same points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from fungrad.inputs import constraints
from fungrad.inputs.constraints import INFINITY, Room, lengths

KEY = jax.random.key(0)
X = jax.random.uniform(KEY, (3, 5), float).at[0, 0].set(0.0)
DELTA = 2 * jax.random.normal(jax.random.key(1), (3, 5), float)
ROOM = Room.of(X, (0.0, 1.0))

norms = pytest.mark.parametrize("norm", [1, 2, INFINITY])


def linear_program(w, x, norm, *, size=None, gain=None):
    """The farthest δ in the ball, or the shortest with w · δ ≥ gain, for p = 1 and ∞.

    δ = u − v with u, v ≥ 0; for p = ∞ a last variable bounds them all.
    """
    n, cap = len(w), norm == INFINITY
    length = np.append(np.zeros(2 * n), 1.0) if cap else np.ones(2 * n)
    slope = np.append(np.concatenate([w, -w]), 0.0)[: len(length)]
    rows, limits = [], []
    if cap:
        rows = [np.append(np.eye(2 * n)[i], -1.0) for i in range(2 * n)]
        limits = [0.0] * (2 * n)
    rows.append(length if size is not None else -slope)
    limits.append(size if size is not None else -gain)
    box = [(0, 1 - each) for each in x] + [(0, each) for each in x] + [(0, None)] * cap
    cost = -slope if size is not None else length
    found = linprog(cost, A_ub=np.array(rows), b_ub=np.array(limits), bounds=box)
    return abs(found.fun)


def quadratic_program(cost, x, constraint):
    """The least cost in the box, by sequential quadratic programming."""
    box = list(zip(-x, 1 - x, strict=True))
    found = minimize(
        cost,
        0 * x,
        bounds=box,
        constraints={"type": "ineq", "fun": constraint},
        options={"maxiter": 500, "ftol": 1e-14},
    )
    return found.fun


@norms
def test_the_farthest_point_of_a_ball_in_a_box(norm):
    delta = constraints.farthest(DELTA, norm, jnp.array(0.6), ROOM)
    assert np.all(lengths(delta, norm) <= 0.6 + 1e-12)
    for x, w, d in zip(np.array(X), np.array(DELTA), np.array(delta), strict=True):
        if norm == 2:
            best = -quadratic_program(lambda d, w=w: -w @ d, x, lambda d: 0.36 - d @ d)
        else:
            best = linear_program(w, x, norm, size=0.6)
        np.testing.assert_allclose(w @ d, best, rtol=1e-6)


@norms
def test_the_nearest_point_of_a_half_space_in_a_box(norm):
    gain = jnp.array([0.5, 1.0, 0.0])
    delta = constraints.nearest(DELTA, gain, norm, ROOM)
    assert not np.any(delta[2])
    for x, w, c, d in zip(np.array(X[:2]), np.array(DELTA), gain, np.array(delta), strict=False):
        np.testing.assert_allclose(w @ d, c, rtol=1e-12)
        if norm == 2:
            best = quadratic_program(lambda d: d @ d, x, lambda d, w=w, c=c: w @ d - c) ** 0.5
        else:
            best = linear_program(w, x, norm, gain=float(c))
        np.testing.assert_allclose(np.linalg.norm(d, norm), best, rtol=1e-6)


def test_what_the_box_does_not_allow_is_the_whole_room():
    delta = constraints.nearest(DELTA, jnp.full(3, 1e3), 2, ROOM)
    np.testing.assert_array_equal(delta, jnp.sign(DELTA) * ROOM.towards(DELTA))


@norms
def test_projections_onto_what_ball_and_box_share(norm):
    delta = np.array(constraints.project(DELTA, norm, jnp.array(0.6), ROOM))
    assert np.all(np.linalg.norm(delta, norm, axis=1) <= 0.6 + 1e-6)
    for x, y, d in zip(np.array(X), np.array(DELTA), delta, strict=True):
        if norm == 1:  # δ = u − v, whose gradients exist everywhere
            signs = np.sign(y)
            room = np.where(signs > 0, 1 - x, x)
            best = minimize(
                lambda a, y=y: np.sum((a - np.abs(y)) ** 2),
                0 * y,
                bounds=[(0, each) for each in room],
                constraints={"type": "ineq", "fun": lambda a: 0.6 - a.sum()},
                options={"ftol": 1e-14},
            ).fun
        elif norm == 2:
            best = quadratic_program(lambda d, y=y: np.sum((d - y) ** 2), x, lambda d: 0.36 - d @ d)
        else:
            best = np.sum((np.clip(y, np.maximum(-x, -0.6), np.minimum(1 - x, 0.6)) - y) ** 2)
        np.testing.assert_allclose(np.sum((d - y) ** 2), best, rtol=1e-5)
    again = constraints.project(jnp.asarray(delta), norm, jnp.array(0.6), ROOM)
    np.testing.assert_allclose(again, delta, atol=1e-6)


@norms
def test_random_points_fill_the_ball(norm):
    keys = jax.random.split(KEY, 400)
    room = Room.of(jnp.full((400, 3), 0.5), (0.0, 1.0))
    length = lengths(constraints.random(keys, norm, jnp.array(0.4), room), norm)
    assert np.all(length <= 0.4 + 1e-6)
    # In a ball of three dimensions half of the volume is within 2^(−1/3) of the radius.
    assert 0.4 < np.mean(length < 0.4 * 0.5 ** (1 / 3)) < 0.6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@norms
def test_rounding_does_not_leave_the_ball(norm, dtype):
    x = jax.random.uniform(KEY, (50, 7), jnp.float32).astype(dtype).astype(jnp.float32)
    delta = constraints.random(
        jax.random.split(KEY, 50), norm, jnp.float32(0.3), Room.of(x, (0.0, 1.0))
    )
    delta = delta * jnp.float32(1.2)  # outside
    moved = constraints.settled(x, delta, norm, jnp.float32(0.3), (0.0, 1.0), dtype)
    assert moved.dtype == dtype
    exact = np.asarray(moved, np.float64) - np.asarray(x, np.float64)
    assert np.linalg.norm(exact, norm, axis=1).max() <= 0.3 + 1e-7
    assert np.all((moved >= 0) & (moved <= 1))


def test_directions_of_any_size_and_of_none():
    tiny = jnp.array([[3e-30, -4e-30], [0.0, 0.0], [jnp.nan, 2.0]], jnp.float32)
    unit = constraints.unit(tiny)
    np.testing.assert_allclose(unit, [[0.6, -0.8], [0, 0], [0, 1]], rtol=1e-6)
    np.testing.assert_array_equal(constraints.signs(tiny), [[1, -1], [0, 0], [0, 1]])
