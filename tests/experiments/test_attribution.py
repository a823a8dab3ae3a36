import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import attribution
from experiments.attribution_studies import measures, methods
from experiments.common.command import ExperimentError

from .test_report import check_page


def test_smoke(tmp_path):
    page = attribution.run(attribution.Config(smoke=True, out=tmp_path))
    names = ["digits", "photographs", "collages"]
    names += [f"{part}-{of}" for part in ("curves", "sanity") for of in ("digits", "photographs")]
    assert check_page(page).files == [f"{name}.png" for name in names]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["collages"]) == list(methods.METHODS)
    assert set(metrics["areas"]["digits"]) == {*methods.METHODS, attribution.RANDOM}


def test_bad_options(tmp_path):
    with pytest.raises(ExperimentError, match="count: got 0, expected at least 1"):
        attribution.run(attribution.Config(count=0, out=tmp_path))
    with pytest.raises(ExperimentError, match="cannot be read as an image"):
        attribution.run(attribution.Config(photo=tmp_path / "none.png", out=tmp_path))


@pytest.fixture
def linear():
    """y = x · w for one image of four pixels, and a class of score 0."""
    w = jnp.array([[4.0, 3.0], [-2.0, 1.0]])[..., None]

    def apply(w, x):
        return jnp.stack([jnp.einsum("nhwc,hwc->n", x, w), jnp.zeros(len(x))], axis=1)

    return apply, w


def test_maps_of_a_linear_model(linear):
    apply, w = linear
    x = jnp.array([[[[0.5], [1.0]], [[1.0], [0.0]]]])
    found = methods.maps(apply, w, x, jnp.array([0]), jax.random.key(0))
    by_pixel = w[None, ..., 0]
    for name in ("saliency", "guided", "SmoothGrad"):
        np.testing.assert_allclose(found[name], jnp.abs(by_pixel), rtol=1e-5)
    for name in ("gradient × input", "integrated"):
        grey = 0.5 * (name == "integrated")
        np.testing.assert_allclose(found[name], (x[..., 0] - grey) * by_pixel, atol=1e-5)
    # z-box: x w − l w⁺ − h w⁻ in proportion, with l = 0 and h = 1; it sums to the score.
    parts = x[..., 0] * by_pixel - jnp.minimum(by_pixel, 0)
    score = apply(w, x)[0, 0]
    np.testing.assert_allclose(found["LRP"], parts / parts.sum() * score, rtol=1e-4, atol=1e-5)


def test_curves_by_hand(linear):
    """Deletion from the strongest pixel on: the score falls by w/2 with every pixel made grey."""
    apply, w = linear
    model, x = lambda x: apply(w, x), jnp.ones((1, 2, 2, 1))
    found = measures.curves(model, x, jnp.array([0]), w[None, ..., 0], steps=4)
    scores = np.array([6.0, 4.0, 2.5, 2.0, 3.0])  # 4, 3, 1 and −2 lose their half, in this order
    np.testing.assert_allclose(found.deletion, 1 / (1 + np.exp(-scores)), rtol=1e-5)
    scores = np.array([3.0, 5.0, 6.5, 7.0, 6.0])
    np.testing.assert_allclose(found.insertion, 1 / (1 + np.exp(-scores)), rtol=1e-5)
    assert found.areas["deletion"] < found.areas["insertion"]


def test_likeness_and_share():
    one = jnp.arange(6.0).reshape(1, 2, 3)
    assert measures.similarity(one, 2 * one + 1) == pytest.approx(1)
    assert measures.similarity(one, 6 - one) == pytest.approx(-1)
    right = jnp.array([[[False, False, True], [False, False, True]]])
    assert measures.share_inside(one - 2, right) == pytest.approx(3 / 6)


def test_weights_are_shuffled_from_the_last_layer_on():
    params = [{"W": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(2)} for _ in range(3)]
    changed = measures.randomized(params, 2, jax.random.key(0))
    assert measures.count_of_layers(params) == 3
    for layer, (old, new) in enumerate(zip(params, changed, strict=True)):
        assert bool((old["W"] == new["W"]).all()) == (layer == 0)
        np.testing.assert_array_equal(np.sort(new["W"].ravel()), np.arange(6.0))
        np.testing.assert_array_equal(old["b"], new["b"])
