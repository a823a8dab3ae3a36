"""What every attack promises: constraints, dtypes, bits, chunks, traced arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad.inputs import DDN, FGSM, PGD, AutoAttack, Misclassified, Square, Targeted
from fungrad.inputs.constraints import INFINITY

from .cases import linear, network

KEY = jax.random.key(0)
EPSILONS = [0.0, 0.1, 0.25]


def check(found, x, epsilons, norm, bounds=(0.0, 1.0)):
    """The constraints, and that the outcome says what is so."""
    assert found.x.dtype == x.dtype
    assert found.x.shape == (len(epsilons), *x.shape)
    low, high = (np.asarray(bound, x.dtype) for bound in bounds)
    assert np.all((np.asarray(found.x) >= low) & (np.asarray(found.x) <= high))
    change = np.asarray(found.x, np.float64) - np.asarray(x, np.float64)
    lengths = np.linalg.norm(change.reshape(*change.shape[:2], -1), norm, axis=2)
    assert np.all(lengths <= np.array(epsilons)[:, None] + (4e-6 if norm == 1 else 1e-6))
    np.testing.assert_allclose(found.distance, lengths, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(found.robust_accuracy, 1 - found.success.mean(axis=1))


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        (PGD(norm=1, steps=8, restarts=2), jnp.float32),
        (PGD(norm=2, steps=8), jnp.bfloat16),
        (PGD(steps=8), float),
        (Square(norm=2, steps=30), jnp.float16),
    ],
    ids=str,
)
def test_constraints_hold_and_bits_repeat(method, dtype):
    model, x, labels = network(dtype)
    attack = lambda epsilons, key: fg.inputs.attack(  # noqa: E731
        model, x, Misclassified(labels), method, epsilons, key=key
    )
    found = attack(EPSILONS, KEY)
    check(found, x, EPSILONS, method.norm)
    np.testing.assert_array_equal(found.x[0], x)
    for number, epsilon in enumerate(EPSILONS):
        np.testing.assert_array_equal(attack(epsilon, KEY).x[0], found.x[number])
    for z, success in zip(jax.vmap(model)(found.x), found.success, strict=True):
        np.testing.assert_array_equal(z.argmax(axis=1) != labels, success)
    assert np.any(attack(0.25, jax.random.key(1)).x[0] != found.x[2])


def test_other_bounds():
    bounds = (-100.0, 155.0)
    model, x, labels = linear(bounds=bounds)
    width = bounds[1] - bounds[0]
    true = fg.inputs.exact(model, x, Misclassified(labels), 1, bounds=bounds)
    size = np.median(true.distance) + 0.01 * width
    method = PGD(norm=1, steps=20, restarts=2)
    found = fg.inputs.attack(model, x, Misclassified(labels), method, size, bounds=bounds, key=KEY)
    low, high = bounds
    moved = np.asarray(found.x)
    assert np.all((moved >= low) & (moved <= high))
    assert np.all(np.asarray(found.distance) <= size * (1 + 1e-6))
    assert abs(float(found.robust_accuracy[0]) - true.robust_accuracy(size)[0]) < 1 / 11


def test_minimum_norm_methods_with_sizes():
    model, x, labels = network()
    nearest = fg.inputs.attack(model, x, Misclassified(labels), DDN(steps=30), key=KEY)
    assert nearest.success.all()
    assert nearest.epsilons is None
    sizes = np.quantile(nearest.distance[0], [0, 0.5, 1]) + 1e-4
    found = fg.inputs.attack(model, x, Misclassified(labels), DDN(steps=30), sizes, key=KEY)
    check(found, x, sizes, 2)
    within = np.asarray(nearest.distance[0]) <= sizes[1]
    np.testing.assert_array_equal(found.success[1], within)
    np.testing.assert_array_equal(found.x[1][within], nearest.x[0][within])
    assert found.success[2].all()


def test_what_is_wrong_already_stays_as_it_is():
    model, x, labels = network()
    labels = labels.at[0].set((labels[0] + 1) % 4)
    found = fg.inputs.attack(model, x, Misclassified(labels), DDN(steps=30), key=KEY)
    assert found.success[0, 0]
    assert found.distance[0, 0] == 0
    np.testing.assert_array_equal(found.x[0, 0], x[0])


def test_targets():
    model, x, labels = network()
    targets = (labels + 1) % 4
    found = fg.inputs.attack(model, x, Targeted(targets), DDN(steps=60), key=KEY)
    reached = model(found.x[0]).argmax(axis=1) == targets
    np.testing.assert_array_equal(found.success[0], reached)
    assert reached.all()
    ball = fg.inputs.attack(model, x, Targeted(targets), PGD(norm=2), 1.2, key=KEY)
    np.testing.assert_array_equal(ball.success[0], model(ball.x[0]).argmax(axis=1) == targets)
    assert ball.success.mean() > 0.5


def test_chunks_change_nothing_but_rounding():
    model, x, labels = network()
    whole, parts = (
        fg.inputs.attack(
            model, x, Misclassified(labels), PGD(steps=8), 0.1, key=KEY, chunk=chunk, progress=True
        )
        for chunk in (None, 5)
    )
    np.testing.assert_allclose(parts.x, whole.x, atol=1e-6)


def test_under_jit_everything_may_be_traced():
    apply, params = fg.models.mlp((9, 16, 4), key=KEY, dtype=jnp.float32)
    x = jax.random.uniform(KEY, (6, 9), jnp.float32)
    labels = apply(params, x).argmax(axis=1)
    method = PGD(steps=8)

    def attacked(params, x, labels, epsilons, key):
        model = lambda x: apply(params, x)  # noqa: E731
        return fg.inputs.attack(model, x, Misclassified(labels), method, epsilons, key=key)

    sizes = jnp.array([0.0, 0.1], jnp.float32)
    inside = jax.jit(attacked)(params, x, labels, sizes, KEY)
    outside = attacked(params, x, labels, sizes, KEY)
    assert "PGD" in str(inside) or "ε" in str(inside)
    np.testing.assert_allclose(inside.x, outside.x, atol=1e-6)
    np.testing.assert_array_equal(inside.success, outside.success)


def test_parameters_may_change_between_calls():
    held = {"sign": jnp.float32(1)}
    x = jnp.full((2, 2), 0.6, jnp.float32)

    def model(x):
        return held["sign"] * x

    first = fg.inputs.attack(model, x, Misclassified(jnp.array([0, 1])), FGSM(), 0.1, key=KEY)
    held["sign"] = jnp.float32(-1)
    second = fg.inputs.attack(model, x, Misclassified(jnp.array([0, 1])), FGSM(), 0.1, key=KEY)
    np.testing.assert_allclose(first.x - x, x - second.x, atol=1e-6)


def test_saturation_is_no_robustness():
    model, x, labels = network()
    sure = lambda x: 1e4 * model(x)  # noqa: E731
    for method in (FGSM(), PGD(norm=2, steps=8)):
        plain, scaled = (
            fg.inputs.attack(f, x, Misclassified(labels), method, 0.3, key=KEY)
            for f in (model, sure)
        )
        assert scaled.success.mean() >= plain.success.mean() - 1 / 11
        assert np.any(scaled.success)


def test_autoattack_and_its_table():
    model, x, labels = linear()
    truth = fg.inputs.exact(model, x, Misclassified(labels), INFINITY)
    sizes = np.quantile(truth.distance, [0.3, 0.6]).round(3)
    method = AutoAttack(steps=20, targets=3, queries=50)
    table = fg.inputs.robust_accuracy(model, x, labels, sizes, [method, FGSM()], key=KEY)
    np.testing.assert_allclose(table.worst, truth.robust_accuracy(sizes))
    assert table.clean == 1
    assert str(table).splitlines()[1].split()[-2:] == [f"{each:.4f}" for each in table.worst]
    check(table.attacks["AutoAttack, inf"], x, sizes, INFINITY)
