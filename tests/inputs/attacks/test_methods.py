"""How near the methods come to the truth, where it is known; and that each can be traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad.inputs import (
    APGD,
    DDN,
    FAB,
    FMN,
    LBFGS,
    PGD,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    MaskingWarning,
    Misclassified,
    Square,
    Targeted,
    exact,
)
from fungrad.inputs.attacks import autoattack, losses, running
from fungrad.inputs.constraints import INFINITY

from .cases import linear

KEY = jax.random.key(0)
MODEL, X, LABELS = linear()


@pytest.mark.parametrize(
    "method",
    [
        DeepFool(),
        DDN(steps=60),
        FMN(norm=1, steps=60),
        CarliniWagner(steps=60, search_steps=5),
        LBFGS(),
    ],
    ids=lambda method: type(method).__name__,
)
def test_minimum_norm_methods_find_the_exact_distance(method):
    truth = exact(MODEL, X, Misclassified(LABELS), method.norm).distance
    found = fg.inputs.attack(MODEL, X, Misclassified(LABELS), method, key=KEY)
    ratio = np.asarray(found.distance[0], np.float64) / truth
    assert found.success.all()
    assert ratio.min() > 1 - 1e-5
    assert np.median(ratio) < 1.001
    assert ratio.max() < 1.02


@pytest.mark.parametrize("method", [PGD(norm=1, restarts=2), APGD(steps=40)], ids=str)
def test_balls_are_searched_to_the_end(method):
    truth = exact(MODEL, X, Misclassified(LABELS), method.norm)
    sizes = np.quantile(truth.distance, [0.2, 0.5, 0.8]) * 1.01
    found = fg.inputs.attack(MODEL, X, Misclassified(LABELS), method, sizes, key=KEY)
    gap = np.asarray(found.robust_accuracy, np.float64) - truth.robust_accuracy(sizes)
    assert gap.min() >= -1e-6
    assert gap.max() < 0.1


@pytest.mark.parametrize("criterion", [Misclassified, Targeted])
def test_every_method_can_be_traced_in_every_format(criterion):
    """What compiles is read only here, which takes no time: shapes and dtypes must fit."""
    ball = [AutoAttack(steps=2), AutoAttack(norm=1, steps=2), APGD(loss="logits_ratio")]
    minimum = [DDN(), FMN(norm=1), FAB(norm=INFINITY), CarliniWagner(), LBFGS(), DeepFool()]
    for number, method in enumerate([*ball, *minimum, Square(norm=2)]):
        dtype = (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)[number % 4]

        def attacked(x, method=method, dtype=dtype):
            model = lambda x: x @ jnp.ones((9, 4), dtype)  # noqa: E731
            return fg.inputs.attack(model, x, criterion(LABELS), method, [0.1, 0.2], key=KEY)

        found = jax.eval_shape(attacked, jax.ShapeDtypeStruct(X.shape, dtype))
        assert found.x.dtype == dtype
        assert found.x.shape == (2, *X.shape)


def test_the_cross_entropy_has_the_direction_of_its_gradient_at_any_margin():
    z = jnp.array([[2.0, 0.0, -1.0], [2e4, 0.0, -1.0]])
    labels = jnp.array([0, 0], jnp.int32)
    gradient = jax.grad(lambda z: losses.cross_entropy(Misclassified(labels), z).sum())(z)
    plain = jax.grad(lambda z: fg.losses.cross_entropy(z, labels).sum())(z)
    np.testing.assert_allclose(
        gradient[0] / jnp.linalg.norm(gradient[0]), plain[0] / jnp.linalg.norm(plain[0])
    )
    np.testing.assert_allclose(gradient[1], gradient[0])


def test_memory_that_is_short_makes_chunks(monkeypatch):
    free = iter([1])
    monkeypatch.setattr(running, "SMALL", 0)
    monkeypatch.setattr(running, "_free_memory", lambda: next(free, None))
    sizes = []
    advance = sizes.append
    runner = running.Runner(MODEL, _task(), None, True, advance)
    z = runner.run(running.programs.logits_of, None, (X, LABELS))
    np.testing.assert_allclose(z, MODEL(X), rtol=1e-5)
    assert sizes == [6, 6]


def _task():
    return running.Task(None, None, 2, Misclassified, X.shape[1:], X.dtype, (0.0, 1.0))


def test_autoattack_says_what_it_doubts():
    z = np.array([[0.1, 0.7], [0.3, 0.2]])

    def graph_of(model):
        return running.programs.read(model, X.shape, X.dtype)[0].fast

    def looping(x):
        return jax.lax.while_loop(lambda x: jnp.any(x > 1), lambda x: x / 2, x)

    plain = graph_of(MODEL)
    with pytest.warns(MaskingWarning, match="the model is random"):
        autoattack.doubt_logits(plain, 10 * z, 20 * z)
    with pytest.warns(MaskingWarning, match=r"all outputs lie in \[0, 1\]"):
        autoattack.doubt_logits(plain, z, z)
    with pytest.warns(MaskingWarning, match="runs a while loop"):
        autoattack.doubt_logits(graph_of(jax.jit(looping)), 10 * z, 10 * z)
    with pytest.warns(MaskingWarning, match="exactly zero at 1 of 2 examples"):
        autoattack.doubt_gradients(np.array([True, False]))
    with pytest.warns(MaskingWarning, match="Square, which takes no gradients, broke 4"):
        autoattack.doubt_robustness(1, 4, 10)
    autoattack.doubt_logits(plain, 10 * z, 10 * z)
    autoattack.doubt_gradients(np.array([False]))
    autoattack.doubt_robustness(1, 1, 10)
