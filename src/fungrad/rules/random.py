"""Random numbers: bits are made from a key, and neither has a gradient.

What a sampler does with the bits has one: `uniform` scales them, `normal` sends them through
`erf_inv`, so a sample's gradient by the parameters of its distribution comes from those rules.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import lax
from jax.extend.random import threefry2x32_p

from fungrad.rulebook import no_gradient, rule

_KEYS = "keys are no numbers"
_BITS = "random bits are integers, made from a key"

# --- Keys -----------------------------------------------------------------------------------

random_seed = no_gradient(
    "random_seed",
    reason="a seed is an integer, and keys are no numbers",
    example=lambda draw: (jax.random.key, draw.integers()),
)
random_wrap = no_gradient(
    "random_wrap",
    reason=_KEYS,
    example=lambda draw: (jax.random.wrap_key_data, jax.random.key_data(draw.key())),
)
random_unwrap = no_gradient(
    "random_unwrap", reason=_KEYS, example=lambda draw: (jax.random.key_data, draw.key())
)
random_split = no_gradient(
    "random_split", reason=_KEYS, example=lambda draw: (jax.random.split, draw.key())
)
random_fold_in = no_gradient(
    "random_fold_in",
    reason=_KEYS,
    example=lambda draw: (jax.random.fold_in, draw.key(), draw.integers()),
)
random_clone = no_gradient(
    "random_clone", reason=_KEYS, example=lambda draw: (jax.random.clone, draw.key())
)

# --- Bits -----------------------------------------------------------------------------------

random_bits = no_gradient(
    "random_bits",
    reason=_BITS,
    example=lambda draw: (lambda key: jax.random.bits(key, (3,)), draw.key()),
)
threefry2x32 = no_gradient(
    "threefry2x32",
    reason=_BITS,
    example=lambda draw: (
        threefry2x32_p.bind,
        *(draw.integers(2).astype("uint32") for _ in range(4)),
    ),
)
rng_bit_generator = no_gradient(
    "rng_bit_generator",
    reason=_BITS,
    example=lambda draw: (
        lambda key: lax.rng_bit_generator(key, (3,)),
        draw.integers(4).astype("uint32"),
    ),
)
rng_uniform = no_gradient(
    "rng_uniform",
    reason="its numbers come from the device's own state: the same call never repeats them",
    example=lambda draw: (
        lambda low: lax.rng_uniform(low, lax.full_like(low, 2), (3,)),
        draw.uniform(),
    ),
)

# --- Samples --------------------------------------------------------------------------------


@rule(
    "random_gamma",
    example=lambda draw: [
        (lambda a: jax.random.gamma(draw.key(), a), draw.positive(3)),
        (lambda a: jax.random.loggamma(draw.key(), a), draw.positive(3)),
    ],
)
def random_gamma(g, z, key, a, *, log_space):
    """z ~ Gamma(a), or log z        ∂z/∂a = diag(−∂P(a, z)/∂a / p(a, z)), P = γ(a, z)/Γ(a)"""
    # The sampler rejects, so its steps are not smooth in a. But with P the distribution function
    # and p the density, at a fixed quantile P(a, z) = u we have ∂P/∂a + p ∂z/∂a = 0: the implicit
    # derivative of a sample [figurnov2018]. ∂(log z)/∂a is 1/z times that.
    if not log_space:
        return None, g * _slope_of_sample(a, z)
    sample = lax.max(lax.exp(z), lax.full_like(z, jax.numpy.finfo(z.dtype).tiny))
    return None, g * (_slope_of_sample(a, sample) / sample)


_slope_of_sample: Any = lax.random_gamma_grad
