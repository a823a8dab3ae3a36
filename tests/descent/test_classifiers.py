"""Question 15 of seed 001 (neurons): many classes from binary units.

The seed counts k(k + 1)/2 models for one-against-one. Unique pairs of k classes are k(k − 1)/2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fungrad.descent import newton_cg, one_vs_one, one_vs_rest

NEWTON = {"optimizer": newton_cg(), "steps": 30, "penalty": 1e-3}
PAIRS = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


@pytest.fixture(scope="module")
def clouds():
    """Four Gaussian clouds in the plane, one of them in the middle of the others."""
    random = np.random.default_rng(0)
    centers = np.array([[0.0, 4.0], [4.0, -3.0], [-4.0, -3.0], [0.0, 0.0]])
    labels = np.repeat(np.arange(4), 30)
    return centers[labels] + 0.5 * random.normal(size=(120, 2)), labels


@pytest.fixture(scope="module")
def rest(clouds):
    return one_vs_rest(*clouds, **NEWTON)


@pytest.fixture(scope="module")
def pairs(clouds):
    return one_vs_one(*clouds, **NEWTON)


def alone(x, positive, penalty):
    """One logistic unit by Newton's method in NumPy, H and g written out."""
    X = np.c_[x, np.ones(len(x))]
    theta, ridge = np.zeros(3), 2 * penalty * np.diag([1.0, 1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-X @ theta))
        g = X.T @ (p - positive) / len(x) + ridge @ theta
        H = X.T @ ((p * (1 - p))[:, None] * X) / len(x) + ridge
        theta = theta - np.linalg.solve(H, g)
    return theta


def test_one_vs_rest_trains_each_unit_as_if_it_were_alone(clouds, rest):
    x, labels = clouds
    assert rest.W.shape == (4, 2)
    for j in range(4):
        expected = alone(x, labels == j, 1e-3)
        np.testing.assert_allclose([*rest.W[j], rest.b[j]], expected, rtol=1e-5, atol=1e-7)


def test_one_vs_one_trains_each_unit_on_its_two_classes(clouds, pairs):
    x, labels = clouds
    assert pairs.W.shape == (4 * 3 // 2, 2), "k(k - 1)/2 units, not the seed's k(k + 1)/2"
    assert pairs.classes == 4
    for unit, (i, j) in enumerate(PAIRS):
        of_two = (labels == i) | (labels == j)
        expected = alone(x[of_two], labels[of_two] == i, 1e-3)
        np.testing.assert_allclose([*pairs.W[unit], pairs.b[unit]], expected, rtol=1e-5, atol=1e-7)
    assert np.mean(pairs.predict(x) == labels) == 1.0


def test_pairs_separate_what_one_against_all_cannot(clouds, rest, pairs):
    """No line parts the cloud in the middle from all others; each pair of clouds is parted."""
    x, labels = clouds
    middle = labels == 3
    assert np.mean(rest.predict(x)[middle] == 3) < 1.0
    assert np.mean(pairs.predict(x)[middle] == 3) == 1.0
    assert np.mean(rest.predict(x)[~middle] == labels[~middle]) > 0.9


def test_predictions_by_distance_and_by_votes(clouds, rest, pairs):
    x, _ = clouds
    W, b = np.asarray(rest.W), np.asarray(rest.b)
    distances = (x @ W.T + b) / np.linalg.norm(W, axis=1)
    np.testing.assert_allclose(rest.distances(x), distances, rtol=1e-12)
    assert rest.predict(x).tolist() == distances.argmax(axis=1).tolist()
    assert rest.predict(x[0]).shape == ()
    # The foot of the perpendicular lies on the boundary.
    foot = x[:, None] - distances[..., None] * (W / np.linalg.norm(W, axis=1)[:, None])
    np.testing.assert_allclose(np.einsum("nkd,kd->nk", foot, W) + b, 0.0, atol=1e-9)

    votes = np.zeros((120, 4), int)
    for unit, (i, j) in enumerate(PAIRS):
        won = np.asarray(pairs.distances(x))[:, unit] > 0
        votes[won, i] += 1
        votes[~won, j] += 1
    assert pairs.votes(x).tolist() == votes.tolist()
    assert pairs.votes(x).sum(axis=-1).tolist() == [6] * 120
    clear = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1
    assert pairs.predict(x)[clear].tolist() == votes[clear].argmax(axis=1).tolist()


def test_a_tie_of_votes_goes_to_the_greatest_sum_of_distances():
    """In a circle of wins 0 > 1 > 2 > 0 each has one vote; 1 wins by most and loses by least."""
    from fungrad.descent.classifiers import OneVsOne

    units = OneVsOne(W=jnp.eye(3), b=jnp.zeros(3), descent=None)  # 0 or 1, 0 or 2, 1 or 2
    x = jnp.array([0.1, -1.0, 2.0])
    assert units.votes(x).tolist() == [1, 1, 1]
    assert units.predict(x) == 1  # sums: 0.1 − 1.0, −0.1 + 2.0, 1.0 − 2.0


def test_training_in_mini_batches(clouds):
    x, labels = clouds
    units = one_vs_one(
        x,
        labels,
        optimizer=optax.adam(0.05),
        epochs=40,
        batch_size=24,
        key=jax.random.key(0),
        penalty=1e-3,
    )
    assert np.mean(units.predict(x) == labels) == 1.0
    assert units.descent.steps == 200


@pytest.mark.parametrize("make", [one_vs_rest, one_vs_one])
@pytest.mark.parametrize(
    ("x", "labels", "error", "message"),
    [
        (np.ones(3), [0, 1, 2], TypeError, r"x must be floating-point examples \[N, n\], got"),
        (np.ones((3, 2), int), [0, 1, 2], TypeError, "x must be floating-point examples"),
        (np.ones((3, 2)), [0, 1], TypeError, r"labels must be integers \[3\], one per example"),
        (np.ones((3, 2)), [0.0, 1.0, 2.0], TypeError, r"labels must be integers \[3\]"),
        (np.ones((3, 2)), [0, 2, 2], ValueError, r"every class present.*got the classes \[0, 2\]"),
        (np.ones((3, 2)), [-1, 0, 1], ValueError, r"got the classes \[-1, 0, 1\]"),
        (np.ones((3, 2)), [0, 0, 0], ValueError, r"got the classes \[0\]"),
    ],
)
def test_bad_examples(make, x, labels, error, message):
    with pytest.raises(error, match=message):
        make(x, np.asarray(labels), **NEWTON)
