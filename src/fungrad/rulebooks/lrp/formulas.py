"""The rules of a layer z = W x + b: how the relevance R at z is shared among the entries of x.

Each is a formula in one line, over shares:

    shares(R; Σ_k W_k x_k + c) = Σ_k x_k ⊙ W_kᵀ(R / (Σ_k W_k x_k + c))

which hands every entry the part of R that it contributes to the denominator; what c contributes is
lost. ⁺ and ⁻ are the positive and the negative part, entry by entry: x = x⁺ + x⁻. Denominators are
moved away from 0 by `STABILIZER`, in the direction of their sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import numpy as jnp

from fungrad import _jax
from fungrad.rulebooks.lrp.layers import Layer

STABILIZER = 1e-6


def ratio(R: Any, z: Any, stabilizer: float) -> Any:
    """R / (z + ε sgn z), with sgn 0 = 1; without ε, 0 where z is 0."""
    if stabilizer:
        return R / (z + jnp.where(z < 0, -stabilizer, stabilizer).astype(z.dtype))
    return jnp.where(z == 0, jnp.zeros_like(R), R / jnp.where(z == 0, jnp.ones_like(z), z))


def shares(R: Any, layer: Layer, terms: Any, c: Any, stabilizer: float = STABILIZER) -> Any:
    """Σ x_k ⊙ W_kᵀ(R / (Σ W_k x_k + c)) for terms (x_k, W_k)."""
    z = sum(layer.product(x, W) for x, W in terms) + c
    s = ratio(R, z, stabilizer)
    return sum(x * layer.pulled_back(s, W) for x, W in terms)


def _positive(a: Any) -> Any:
    return jnp.maximum(a, jnp.zeros((), a.dtype))


def _negative(a: Any) -> Any:
    return jnp.minimum(a, jnp.zeros((), a.dtype))


@dataclass(frozen=True)
class Epsilon:
    """z = W x + b        R ↦ x ⊙ Wᵀ(R / (z + ε sgn z))"""

    epsilon: float

    def __call__(self, R, layer):
        return layer.x * layer.pulled_back(ratio(R, layer.z, self.epsilon), layer.W)


@dataclass(frozen=True)
class Gamma:
    """z = W x + b        R ↦ x ⊙ W'ᵀ(R / (W' x + b')),  W' = W + γ W⁺,  b' = b + γ b⁺

    That is for x ≥ 0 and z > 0. In general, the products x_i W_ji and b that have the sign of z get
    the factor 1 + γ, where z = 0 there is no relevance.
    """

    gamma: float

    def __call__(self, R, layer):
        x, W, b, none = layer.x, layer.W, layer.b, jnp.zeros_like(R)
        more, less = (W + self.gamma * part(W) for part in (_positive, _negative))
        up, down = (b + self.gamma * part(b) for part in (_positive, _negative))
        above = [(_positive(x), more), (_negative(x), less)]
        below = [(_positive(x), less), (_negative(x), more)]
        return shares(jnp.where(layer.z > 0, R, none), layer, above, up) + shares(
            jnp.where(layer.z < 0, R, none), layer, below, down
        )


@dataclass(frozen=True)
class AlphaBeta:
    """z = W x + b        R ↦ α shares(R; W⁺x⁺ + W⁻x⁻ + b⁺) − β shares(R; W⁻x⁺ + W⁺x⁻ + b⁻)"""

    alpha: float
    beta: float

    def __call__(self, R, layer):
        x, W, b = layer.x, layer.W, layer.b
        above = [(_positive(x), _positive(W)), (_negative(x), _negative(W))]
        below = [(_positive(x), _negative(W)), (_negative(x), _positive(W))]
        for_it = self.alpha * shares(R, layer, above, _positive(b))
        if not self.beta:
            return for_it
        return for_it - self.beta * shares(R, layer, below, _negative(b))


@dataclass(frozen=True)
class WSquare:
    """z = W x + b        R ↦ shares(R; W² 1 + b²)"""

    def __call__(self, R, layer):
        return shares(R, layer, [(jnp.ones_like(layer.x), layer.W**2)], layer.b**2)


@dataclass(frozen=True)
class Flat:
    """z = W x + b        R ↦ shares(R; 1 1): evenly to all that z sees"""

    def __call__(self, R, layer):
        zero = jnp.zeros((), R.dtype)
        return shares(R, layer, [(jnp.ones_like(layer.x), jnp.ones_like(layer.W))], zero)


@dataclass(frozen=True)
class Bound:
    """An array as a value: it compares and hashes by what is in it."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, name: str, bound: Any) -> Bound:
        """The bound that the argument `name` gives."""
        if _jax.is_tracer(bound):
            raise TypeError(f"{name} must be known when the book is made, got a tracer")
        array = np.asarray(bound, float)
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} must be finite, got {bound!r}")
        return cls(array.tobytes(), array.shape, str(array.dtype))

    @property
    def array(self) -> Any:
        """The bound as an array."""
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)

    def like(self, x: Any) -> Any:
        """The bound in the dtype of x, if it broadcasts to the shape of x."""
        sizes = zip(self.shape[::-1], x.shape[::-1], strict=False)
        if len(self.shape) > x.ndim or any(n not in (1, m) for n, m in sizes):
            raise ValueError(
                f"zbox has bounds of shape {list(self.shape)}, its layer an input of shape "
                f"{list(x.shape)}; give bounds that broadcast to the input"
            )
        return self.array.astype(x.dtype)


@dataclass(frozen=True)
class ZBox:
    """z = W x + b, l ≤ x ≤ h        R ↦ shares(R; W x − W⁺ l − W⁻ h)"""

    low: Bound
    high: Bound

    def __call__(self, R, layer):
        x, W = layer.x, layer.W
        low, high = (jnp.broadcast_to(b.like(x), x.shape) for b in (self.low, self.high))
        terms = [(x, W), (-low, _positive(W)), (-high, _negative(W))]
        return shares(R, layer, terms, jnp.zeros((), R.dtype))


LayerRule = Epsilon | Gamma | AlphaBeta | WSquare | Flat | ZBox
