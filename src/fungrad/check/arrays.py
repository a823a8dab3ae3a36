"""Lists of arrays that stand for points, gradients and directions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

Arrays = Sequence[Any]

FORMATS = ("float64", "float32", "bfloat16", "float16")


def is_float(x: Any) -> bool:
    """Whether x has a gradient."""
    return jnp.issubdtype(x.dtype, jnp.inexact)


def is_complex(x: Any) -> bool:
    """Whether x holds complex numbers."""
    return jnp.issubdtype(x.dtype, jnp.complexfloating)


def eps_of(x: Any) -> float:
    """The spacing of the numbers of x's format at 1."""
    return float(jnp.finfo(x.dtype).eps)


def random_like(arrays: Arrays, seed: int) -> list[Any]:
    """Numbers of sizes between 0.5 and 2, in the arrays' shapes and dtypes."""
    draw = np.random.default_rng(seed)

    def one(x):
        numbers = draw.uniform(0.5, 2, x.shape) * draw.choice([-1.0, 1.0], x.shape)
        turn = np.exp(1j * draw.uniform(-3, 3, x.shape)) if is_complex(x) else 1.0
        return np.asarray(numbers * turn, x.dtype)

    return [one(x) for x in arrays]


def checked_formats(dtypes: Any) -> tuple[str, ...]:
    """The names of formats that a user gave.

    Raises:
        TypeError: they are no list.
        ValueError: one of them is no format of floats.
    """
    such = f"dtypes must be a list of {', '.join(FORMATS)}"
    if isinstance(dtypes, str) or not isinstance(dtypes, Iterable):
        raise TypeError(f"{such}, got {dtypes!r}; for one format write dtypes=['bfloat16']")
    return tuple(_checked_format(dtype, such) for dtype in dtypes)


def _checked_format(dtype: Any, such: str) -> str:
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = None
    if name not in FORMATS:
        raise ValueError(f"{such}, got {dtype!r}; complex arguments follow the format of floats")
    return name


def in_format(tree: Any, dtype: Any) -> Any:
    """A tree with its real arrays in another format, its complex ones in that of such parts."""
    parts = np.promote_types(np.complex64, dtype) if dtype in ("float32", "float64") else None

    def convert(x):
        if not hasattr(x, "dtype") or not is_float(x):
            return x
        to = parts if is_complex(x) else dtype
        # By NumPy, which has nothing to compile.
        return x if to is None else jnp.asarray(np.asarray(x).astype(to))

    return jax.tree.map(convert, tree)


@contextlib.contextmanager
def formats_of(arrays: Arrays) -> Iterator[None]:
    """64-bit formats exist, where arrays have them, and matrix products are exact in their own."""
    with contextlib.ExitStack() as stack:
        if any(x.dtype in (np.float64, np.complex128) for x in arrays):
            stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.default_matmul_precision("highest"))
        yield


def widest(x: Any) -> Any:
    """x in the widest format that there is."""
    return x.astype(jnp.result_type(complex if is_complex(x) else float))


def scaled(x: Any, factor: Any) -> Any:
    """x times a real number, in x's format."""
    return x * jnp.asarray(factor).astype(x.dtype)


def inner(g: Arrays, x: Arrays) -> Any:
    """Re Σ g x: how far the loss moves when values move by x and their gradients are g."""
    pairs = zip(g, x, strict=True)
    return sum((jnp.real(jnp.sum(widest(a) * widest(b))) for a, b in pairs), jnp.zeros(()))


def conjugates(arrays: Arrays) -> list[Any]:
    """The complex conjugates; real arrays as they are."""
    return [jnp.conj(x) if is_complex(x) else x for x in arrays]


def magnitudes(arrays: Arrays) -> list[Any]:
    """The absolute values; complex arrays as they are."""
    return [x if is_complex(x) else abs(x) for x in arrays]


def parts(x: Any) -> int:
    """How many real numbers an array holds."""
    return x.size * (2 if is_complex(x) else 1)


def flattened(arrays: Arrays) -> Any:
    """The vector of all real parts and imaginary parts, array by array."""
    pieces = [jnp.stack([x.real, x.imag]) if is_complex(x) else x for x in arrays]
    return jnp.concatenate([piece.ravel() for piece in pieces])


def folded(vector: Any, like: Arrays) -> list[Any]:
    """The arrays whose parts a vector holds."""
    ends = np.cumsum([parts(x) for x in like])[:-1]
    pieces = jnp.split(vector, ends)

    def fold(piece, x):
        if is_complex(x):
            real, imaginary = piece.reshape(2, *x.shape)
            return lax.complex(real, imaginary).astype(x.dtype)
        return piece.reshape(x.shape).astype(x.dtype)

    return [fold(piece, x) for piece, x in zip(pieces, like, strict=True)]
