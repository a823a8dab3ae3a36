"""Layers of images [..., H, W, C]: convolution and pooling.

`stride`, `dilation` and `window` are one number, or (vertical, horizontal). `padding` is "SAME"
(H' = ⌈H / stride⌉), "VALID" (none is added), one number of pixels for all four sides, or
((top, bottom), (left, right)).
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad._arguments import describe, floating, has_shape, inexact

_IMAGES = ("NHWC", "HWIO", "NHWC")


def conv(
    x, W, b=None, *, stride: Any = 1, padding: Any = "SAME", dilation: Any = 1, groups: int = 1
):
    """z[i, j, o] = b[o] + Σ_{u,v,c} W[u, v, c, o] x[s i + δ u − p, s j + δ v − p, c]

    with stride s, dilation δ and padding p; x is 0 outside. (A cross-correlation: W is not
    flipped.) Linear in x and in W, so ∂J/∂x is a transposed convolution of g by W, and
    ∂J/∂W[u, v, c, o] = Σ_{i,j} g[i, j, o] x[s i + δ u − p, s j + δ v − p, c].

    Args:
        x: [..., H, W, C].
        W: [h, w, C / groups, m].
        b: [m], or None for no bias.
        stride: s, the step between the windows.
        padding: p, see the module's docstring.
        dilation: δ, the distance between two of a window's pixels.
        groups: parts of the channels that do not see one another.

    Returns:
        z: [..., H', W', m].

    Raises:
        TypeError: an integer x or W.
        ValueError: wrong ranks, channels that do not match, a window larger than the image.

    >>> x, edge = jnp.arange(16.0).reshape(4, 4, 1) ** 2, jnp.array([-1.0, 1.0]).reshape(1, 2, 1, 1)
    >>> conv(x, edge, padding="VALID")[0, :, 0].tolist()
    [1.0, 3.0, 5.0]

    Source: [lecun1998].
    """
    x, W = _image("x", inexact("x", x)), inexact("W", W)
    if W.ndim != 4:
        raise ValueError(f"W must be [h, w, C / groups, m], got {describe(W)}")
    if x.shape[-1] != W.shape[2] * groups or W.shape[3] % groups:
        raise ValueError(
            f"W must be [h, w, C / groups, m] with the C of x and m divisible by groups, "
            f"got W {describe(W)}, x {describe(x)} and groups={groups}"
        )
    batch, image = x.shape[:-3], x.shape[-3:]
    z = lax.conv_general_dilated(
        x.reshape(math.prod(batch), *image),
        W,
        _pair("stride", stride),
        _pads(padding),
        rhs_dilation=_pair("dilation", dilation),
        dimension_numbers=_IMAGES,
        feature_group_count=groups,
    )
    z = _not_empty("W", W, x, z.reshape(*batch, *z.shape[1:]))
    if b is None:
        return z
    b = inexact("b", b)
    has_shape("b", b, W.shape[3:], "(one bias per output channel of W)")
    return z + b


# ---------------------------------------------------------------------------- pooling


def max_pool(x, window: Any = 2, *, stride: Any = None, padding: Any = "VALID"):
    """z[i, j, c] = max over the window of x[., ., c]        ∂z/∂x = 1 at the maximum

    Padding never wins. Of several equal maxima the first in row-major order takes the gradient.

    Args:
        x: [..., H, W, C].
        window: its size.
        stride: the step between the windows; the window's size if None.
        padding: see the module's docstring.

    Returns:
        z: [..., H', W', C].

    Raises:
        TypeError: an integer x.
        ValueError: x is no image, the window is larger than it, or padding as large as the window.

    >>> max_pool(jnp.arange(16.0).reshape(4, 4, 1))[..., 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]

    Source: [riesenhuber1999].
    """
    return _pool(x, window, stride, padding, -jnp.inf, lax.max)


def avg_pool(x, window: Any = 2, *, stride: Any = None, padding: Any = "VALID"):
    """z[i, j, c] = mean over the window of x[., ., c]        ∂z/∂x = 1 / its number of pixels

    Padding does not count: the mean is that of the image's own pixels.

    Args, Returns, Raises: those of `max_pool`.

    >>> avg_pool(jnp.arange(16.0).reshape(4, 4, 1))[..., 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    >>> avg_pool(jnp.ones((3, 3, 1)), padding="SAME")[..., 0].tolist()
    [[1.0, 1.0], [1.0, 1.0]]

    Source: [lecun1998].
    """
    total = _pool(x, window, stride, padding, 0.0, lax.add)
    if padding == "VALID":
        return total / math.prod(_pair("window", window))
    ones = jnp.ones((*x.shape[-3:-1], 1), total.dtype)
    return total / _pool(ones, window, stride, padding, 0.0, lax.add)


def _pool(x, window, stride, padding, start, function):
    x, window = _image("x", floating("x", x)), _pair("window", window)
    stride = window if stride is None else _pair("stride", stride)
    pads, batch = _pads(padding), (1,) * (x.ndim - 3)
    if not isinstance(pads, str):
        if any(max(pad) >= size for pad, size in zip(pads, window, strict=True)):
            raise ValueError(f"padding must be smaller than window={window}, got {padding}")
        pads = (*((0, 0) for _ in batch), *pads, (0, 0))
    z = lax.reduce_window(x, start, function, (*batch, *window, 1), (*batch, *stride, 1), pads)
    return _not_empty("window", jnp.empty(window), x, z)


# ---------------------------------------------------------------------------- options


def _image(name, x):
    if x.ndim < 3:
        raise ValueError(
            f"{name} must be [..., H, W, C], got {describe(x)}; "
            f"a grey image gets its channel axis by {name}[..., None]"
        )
    return x


def _pair(name, value):
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(size, int) and size > 0 for size in pair):
        raise ValueError(f"{name} must be a positive integer or a pair of them, got {value!r}")
    return pair


def _pads(padding):
    if padding in ("SAME", "VALID"):
        return padding
    pads = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    if isinstance(pads, str) or np.shape(pads) != (2, 2) or min(map(min, pads)) < 0:
        raise ValueError(
            f'padding must be "SAME", "VALID", a number, or ((top, bottom), (left, right)), '
            f"got {padding!r}"
        )
    return pads


def _not_empty(name, window, x, z):
    if 0 in z.shape[-3:-1]:
        sizes = [" × ".join(map(str, shape)) for shape in (window.shape[:2], x.shape[-3:-1])]
        raise ValueError(f"{name} covers {sizes[0]} pixels and does not fit into x, {sizes[1]}")
    return z
