"""Books that change a gradient on its way: through steps, and at nodes that hand their input on.

`scale`, `reverse_gradient`, `clip`, `clip_norm` and `noise` change a gradient on its way: at
`where`, a selector or a name, at nodes of one input and one output of the same shape. Left
alone, that is every edge which `fungrad.name` or `checkpoint_name` gave a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.rulebook import Rulebook
from fungrad.rules import default
from fungrad.selector import Selector, as_selector

__all__ = ["clip", "clip_norm", "noise", "reverse_gradient", "scale", "straight_through"]


# --- Steps ------------------------------------------------------------------------------------


def _straight(g, z, x):
    """z = a step function of x        g ↦ g"""
    return g


straight_through = default.replace(dict.fromkeys(("round", "floor", "ceil", "sign"), _straight))
"""Straight-through estimator: at round, floor, ceil and sign, g ↦ g  [bengio2013]."""


# --- On the way -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scaled:
    """z = x        g ↦ c g"""

    factor: float

    def __call__(self, g, z, x):
        return g * self.factor


@dataclass(frozen=True)
class _Clipped:
    """z = x        g ↦ min(max(g, −c), c)"""

    value: float

    def __call__(self, g, z, x):
        return jnp.clip(g, -self.value, self.value)


@dataclass(frozen=True)
class _OfBoundedNorm:
    """z = x        g ↦ g · min(1, c/‖g‖)"""

    norm: float

    def __call__(self, g, z, x):
        squares = jnp.sum(g * g)
        # √ has no finite derivative at 0, so what is not clipped does not pass through it.
        exceeds = squares > self.norm**2
        safe = jnp.where(exceeds, squares, lax.full_like(squares, 1))
        return jnp.where(exceeds, g * (self.norm * lax.rsqrt(safe)), g)


def _at(where: str | Selector | None) -> str | Selector:
    return "name" if where is None else as_selector(where)


def scale(factor: float, where: str | Selector | None = None) -> Rulebook:
    """g ↦ factor · g at `where`, the named edges if left alone; shapes stay.

    >>> import fungrad as fg
    >>> book = fg.rulebooks.scale(3.0)
    >>> float(fg.grad(lambda x: 2 * fg.name(x, "h") + x, rules=book)(1.0))
    7.0
    """
    return default.replace({_at(where): _Scaled(float(factor))})


def reverse_gradient(factor: float = 1.0, where: str | Selector | None = None) -> Rulebook:
    """g ↦ −factor · g at `where`, the named edges if left alone [ganin2016].

    >>> import fungrad as fg
    >>> float(fg.grad(lambda x: 2 * fg.name(x, "h"), rules=fg.rulebooks.reverse_gradient())(1.0))
    -2.0
    """
    return scale(-factor, where)


def clip(value: float, where: str | Selector | None = None) -> Rulebook:
    """g ↦ min(max(g, −value), value), entry by entry, at `where`, the named edges if left alone.

    Raises:
        ValueError: `value` is not positive.

    >>> import fungrad as fg
    >>> float(fg.grad(lambda x: 5 * fg.name(x, "h"), rules=fg.rulebooks.clip(1.0))(1.0))
    1.0
    """
    return default.replace({_at(where): _Clipped(_positive("value", value))})


def clip_norm(norm: float, where: str | Selector | None = None) -> Rulebook:
    """g ↦ g · min(1, norm/‖g‖) at `where`, the named edges if left alone [pascanu2013].

    ‖g‖ is the Euclidean norm of all entries at one node (of one example's, under vmap of the
    gradient).

    Raises:
        ValueError: `norm` is not positive.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> loss = lambda x: jnp.sum(jnp.array([3.0, 4.0]) * fg.name(x, "h"))
    >>> fg.grad(loss, rules=fg.rulebooks.clip_norm(10.0))(jnp.ones(2)).tolist()
    [3.0, 4.0]
    """
    return default.replace({_at(where): _OfBoundedNorm(_positive("norm", norm))})


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)


# --- Noise ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Noisy:
    """z = x        g ↦ g + σ n,  n ~ N(0, I)"""

    deviation: float
    key: tuple[int, ...]
    generator: str

    def __call__(self, g, z, x):
        key = jax.random.wrap_key_data(jnp.array(self.key, jnp.uint32), impl=self.generator)
        for value in (g, x):  # n is a function of the key and of these numbers
            key = jax.random.fold_in(key, _digest(value))
        return g + self.deviation * jax.random.normal(key, g.shape, g.dtype)


def _digest(x: Any) -> Any:
    """A number that any bit of x changes: Σ mix(bits(xᵢ) ⊕ i φ 2³²) modulo 2³²."""
    bits = lax.bitcast_convert_type(x.ravel().astype(jnp.float32), jnp.uint32)
    mixed = bits ^ (lax.iota(jnp.uint32, bits.size) * jnp.uint32(0x9E3779B9))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> shift)) * jnp.uint32(factor)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)


def noise(deviation: float, key: Any, where: str | Selector | None = None) -> Rulebook:
    """g ↦ g + σ n, n normal with deviation 1, at `where`, the named edges if left alone.

    A rule has no state: n is a function of the key and of the numbers in g and x. So it is another
    one at every node, in every iteration of a scan, for every example and at every step of a
    descent, and the same again where all of these are the same [neelakantan2015].

    Args:
        deviation: σ, in units of g.
        key: a key of `jax.random`, no tracer: it is part of the book, and of every cache's key.
        where: as above.

    Raises:
        ValueError: `deviation` is not positive.
        TypeError: `key` is no key, or a tracer.

    >>> import fungrad as fg
    >>> import jax
    >>> book = fg.rulebooks.noise(0.1, jax.random.key(0))
    >>> g = fg.grad(lambda x: 5 * fg.name(x, "h"), rules=book)(1.0)
    >>> bool(g != 5), bool(abs(g - 5) < 1)
    (True, True)
    """
    if _jax.is_tracer(key):
        raise TypeError(
            "key must be known when the book is made, got a tracer: make the book outside of jit "
            "(the noise is another one at each step all the same, for it depends on the gradient)"
        )
    key = jax.random.key(key) if isinstance(key, int) else key
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    generator, data = str(jax.random.key_impl(key)), jax.random.key_data(key).tolist()
    return default.replace(
        {_at(where): _Noisy(_positive("deviation", deviation), tuple(data), generator)}
    )
