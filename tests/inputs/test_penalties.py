import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from fungrad.inputs import penalties

X = jax.random.normal(jax.random.key(0), (7, 5, 2))


def test_formulas():
    x = np.asarray(X)
    variation = np.abs(np.diff(x, axis=0)).sum() + np.abs(np.diff(x, axis=1)).sum()
    np.testing.assert_allclose(penalties.total_variation(X), variation)
    np.testing.assert_allclose(penalties.l1(X), np.abs(x).sum())
    np.testing.assert_allclose(penalties.l2(X), np.square(x).sum())
    window = np.array([1, 4, 6, 4, 1]) / 16
    blurred = x
    for axis in (0, 1):
        blurred = ndimage.correlate1d(blurred, window, axis=axis, mode="nearest")
    np.testing.assert_allclose(penalties.blur(X), np.square(x - blurred).sum())


def test_sums_and_multiples():
    both = 0.5 * penalties.l2 + penalties.l1 * 2 + jnp.max
    np.testing.assert_allclose(both(X), 0.5 * penalties.l2(X) + 2 * penalties.l1(X) + X.max())
    assert repr(both) == "0.5·l2 + 2·l1 + max"
    assert both(X.astype(jnp.float32)).dtype == jnp.float32
    with pytest.raises(TypeError):
        penalties.l2 + 1.0
