"""Contractions: sums of products of two arrays. Each is bilinear, so each gradient is one too.

For z = f(x, y), linear in x and in y, the gradient of x is a contraction of g with y, and that of
y one of x with g: the three arrays share their axes, and any two of them give the third.
"""

from __future__ import annotations

from functools import partial

from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.rulebook import rule

# --- dot_general ---------------------------------------------------------------------------------


def _dot_examples(draw):
    def dot(contract, batch, **how):
        return partial(lax.dot_general, dimension_numbers=(contract, batch), **how)

    matrices = dot(((1,), (0,)), ((), ()))
    return [
        (matrices, draw.uniform(2, 3), draw.uniform(3, 4)),
        (matrices, draw.complex(2, 3), draw.complex(3, 2)),
        (dot(((2,), (2,)), ((0,), (1,))), draw.uniform(2, 3, 4), draw.uniform(5, 2, 4)),
        (dot(((3, 0), (1, 2)), ((1,), (0,))), draw.uniform(2, 3, 1, 4), draw.uniform(3, 4, 2)),
        (dot(((), ()), ((), ()), precision="highest"), draw.uniform(2), draw.uniform(3)),
    ]


@rule("dot_general", example=_dot_examples)
def dot_general(g, z, x, y, *, dimension_numbers, precision, preferred_element_type, **_):
    """z[b,m,n] = Σₖ x[b,m,k] y[b,k,n]        ∂z/∂x = I ⊗ yᵀ, ∂z/∂y = x ⊗ I for each b"""
    # Every axis gets a letter: b in all three arrays (batch), k in x and y (summed), m in x and z,
    # n in y and z. Each of b, k, m, n may be several axes, in any order within x and y. Then
    #     ∂L/∂x[b,m,k] = Σₙ g[b,m,n] y[b,k,n]        ∂L/∂y[b,k,n] = Σₘ x[b,m,k] g[b,m,n]
    # where the letter that the two factors share and the result lacks is the one to sum over.
    x_letters, y_letters, z_letters = _letters(dimension_numbers, x.ndim, y.ndim)
    dot = partial(_dot, precision=precision, preferred_element_type=preferred_element_type)
    return (
        lambda: _in_type_of(x, dot(x, g, z_letters, y, y_letters, x_letters)),
        lambda: _in_type_of(y, dot(y, x, x_letters, g, z_letters, y_letters)),
    )


def _in_type_of(x, g):
    """The gradient of x after its promotion to g's type; a real x moves only the real part."""
    real = jnp.iscomplexobj(g) and not jnp.iscomplexobj(x)
    return lax.convert_element_type(lax.real(g) if real else g, x.dtype)


def _letters(dimension_numbers, x_ndim, y_ndim):
    """The letters (integers here) of the axes of x, of y and of their product z."""
    (x_summed, y_summed), (x_batch, y_batch) = dimension_numbers
    x = list(range(x_ndim))
    shared = dict(zip((*y_summed, *y_batch), (*x_summed, *x_batch), strict=True))
    y = [shared.get(axis, x_ndim + axis) for axis in range(y_ndim)]
    free_x = [letter for letter in x if letter not in shared.values()]
    free_y = [letter for letter in y if letter not in shared.values()]
    return x, y, [*x_batch, *free_x, *free_y]


def _dot(like, a, a_letters, b, b_letters, wanted, **how):
    """The contraction of a with b whose axes are those of `like`, the wanted letters in order."""
    if wanted and wanted[-1] in a_letters:  # b's axes come last: often that saves the transpose
        a, a_letters, b, b_letters = b, b_letters, a, a_letters
    numbers, letters = _numbers(a_letters, b_letters, wanted)
    place = _jax.gradient_sharding(like, [wanted.index(letter) for letter in letters])
    product = lax.dot_general(a, b, numbers, out_sharding=place, **how)
    return lax.transpose(product, [letters.index(letter) for letter in wanted])


def _numbers(a_letters, b_letters, wanted):
    """The dimension numbers of the contraction of a with b, and the letters of what it returns."""
    shared = [letter for letter in a_letters if letter in b_letters]
    batch = [letter for letter in shared if letter in wanted]
    summed = [letter for letter in shared if letter not in wanted]

    def pair(letters):
        return [a_letters.index(k) for k in letters], [b_letters.index(k) for k in letters]

    free = [letter for letter in (*a_letters, *b_letters) if letter not in shared]
    return (pair(summed), pair(batch)), batch + free


# --- ragged_dot_general --------------------------------------------------------------------------


def _ragged_examples(draw):
    def dot(contract, batch, ragged, group=()):
        numbers = lax.RaggedDotDimensionNumbers((contract, batch), [ragged], group)
        return partial(lax.ragged_dot_general, ragged_dot_dimension_numbers=numbers)

    sizes = draw.values(2, 0, 3).astype("int32")
    rows = dot(((1,), (1,)), ((), ()), 0, [0])
    x, y = draw.uniform(1, 2, 5, 3), draw.uniform(3, 4, 2, 3)
    return [
        (rows, draw.uniform(5, 2), draw.uniform(3, 2, 4), sizes),
        (rows, draw.uniform(7, 2), draw.uniform(3, 2, 4), sizes),  # two rows are in no group
        (dot(((3,), (0,)), ((1,), (2,)), 2, [3]), x, y, sizes),
        (dot(((1,), (0,)), ((), ()), 1), draw.uniform(2, 5), draw.uniform(5, 3), sizes),
        (dot(((1,), (1,)), ((0,), (0,)), 0), draw.uniform(5, 2), draw.uniform(5, 2, 3), sizes),
    ]


@rule("ragged_dot_general", example=_ragged_examples)
def ragged_dot_general(g, z, x, y, sizes, *, ragged_dot_dimension_numbers, **params):
    """z[m,n] = Σₖ x[m,k] y[γ(m),k,n], γ(m) the group of row m        ∂z/∂x, ∂z/∂y: likewise"""
    # Rows of x that follow each other are a group, and y holds a matrix for each group. So
    #     ∂L/∂x[m,k] = Σₙ g[m,n] y[γ(m),k,n]        ∂L/∂y[γ,k,n] = Σ x[m,k] g[m,n] over γ(m) = γ
    # The second sums within groups, along an axis that both factors have. So does, in another
    # mode, ragged_dot_general itself: z[γ,m,n] = Σ x[m,k] y[k,n] over γ(k) = γ. Its gradients are
    # of the first kind: in both modes one of x, y, z has the axis γ, the others the ragged axis.
    # In the third mode all three have the ragged axis, in their batch: an ordinary product.
    x_letters, y_letters, z_letters, order = _ragged_letters(
        ragged_dot_dimension_numbers, x.ndim, y.ndim
    )
    how = {name: params[name] for name in ("precision", "preferred_element_type")}
    dot = partial(_ragged_dot, sizes=sizes, order=order, **how)
    return (
        lambda: _in_type_of(x, dot(g, z_letters, y, y_letters, x_letters)),
        lambda: _in_type_of(y, dot(x, x_letters, g, z_letters, y_letters)),
        None,
    )


_GROUPS = -1
"""The letter of the axis of groups."""


def _ragged_letters(numbers, x_ndim, y_ndim):
    """The letters of x, y and z, and those that the sizes of the groups go along, ragged last."""
    (x_summed, _), (x_batch, _) = numbers.dot_dimension_numbers
    (ragged,) = numbers.lhs_ragged_dimensions
    x, y, z = _letters(numbers.dot_dimension_numbers, x_ndim, y_ndim)
    for axis in numbers.rhs_group_dimensions:
        z.remove(y[axis])
        y[axis] = _GROUPS
    if ragged in x_summed:
        z.insert(0, _GROUPS)
    free = [axis for axis in x if axis not in (*x_summed, *x_batch)]
    kin = next(list(axes) for axes in (x_batch, x_summed, free) if ragged in axes)
    outer = [] if ragged in x_batch else x_batch
    return x, y, z, [*outer, *kin[: kin.index(ragged) + 1]]


def _ragged_dot(a, a_letters, b, b_letters, wanted, *, sizes, order, **how):
    """The contraction of a with b within groups whose axes are the wanted letters."""
    if order[-1] not in a_letters:  # the first factor must be ragged
        a, a_letters, b, b_letters = b, b_letters, a, a_letters
    letters = [*order, *(letter for letter in a_letters if letter not in order)]
    a = lax.transpose(a, [a_letters.index(letter) for letter in letters])
    numbers, result = _numbers(letters, b_letters, wanted)
    groups = [axis for axis, letter in enumerate(b_letters) if letter == _GROUPS]
    numbers = lax.RaggedDotDimensionNumbers(numbers, [letters.index(order[-1])], groups)
    product = lax.ragged_dot_general(a, b, sizes, numbers, **how)
    result = [letter for letter in result if letter != _GROUPS]
    result = [_GROUPS, *result] if _GROUPS in wanted else result
    return lax.transpose(product, [result.index(letter) for letter in wanted])


# --- convolution ---------------------------------------------------------------------------------


def _convolution_examples(draw):
    def convolution(strides, padding, **how):
        return partial(lax.conv_general_dilated, window_strides=strides, padding=padding, **how)

    last = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    holes = convolution((3, 2), [(2, -1), (0, 1)], lhs_dilation=(2, 1), rhs_dilation=(1, 2), **last)
    signal, image, kernel = (
        draw.uniform(4, 2, 5),
        draw.uniform(2, 5, 6, 2),
        draw.uniform(3, 2, 2, 3),
    )
    return [
        (convolution((1,), "SAME"), signal, draw.uniform(3, 2, 3)),
        (convolution((1,), "VALID"), draw.complex(1, 2, 5), draw.complex(2, 2, 3)),
        (convolution((2, 1), "SAME", **last), image, kernel),
        (holes, image, kernel),
        (convolution((2,), "SAME", feature_group_count=2), signal, draw.uniform(4, 1, 3)),
        (convolution((2,), "SAME", batch_group_count=2), signal, draw.uniform(4, 2, 3)),
        (convolution((1,), [(1, 0)]), signal[..., :0], draw.uniform(3, 2, 1)),
    ]


@rule("conv_general_dilated", example=_convolution_examples)
def conv_general_dilated(g, z, x, w, *, dimension_numbers, **how):
    """z[n,o,t] = Σ x[n,c,i] w[o,c,k] over di + p = st + rk        ∂z/∂x, ∂z/∂w: convolutions"""
    # Along one spatial axis (all are alike), let s be the stride, r the window's dilation, d the
    # dilation of x, p the padding below, K the window's length. x[i] meets w[k] in z[t] where
    #     di + p = st + rk,
    # the position of t's window and the step k within it. Read it with x, then w, as the result:
    #     st + p' = di + rk',    k' = K − 1 − k, p' = r(K − 1) − p    ∂L/∂x[i] = Σ g[t] w[K−1−k']
    #     di + p  = rk + st                                           ∂L/∂w[k] = Σ x[i] g[t]
    # So ∂x slides the mirrored window over g, with stride d and g dilated by s; ∂w slides g itself,
    # dilated by s, over x with stride r. The padding above is what the known length leaves
    # [dumoulin2016]. ∂x sums over the outputs o, ∂w over the examples n: `_swap` says so.
    # Groups: z's block γ of outputs sees x's block γ of channels (or of examples).
    if 0 in (*g.shape, *x.shape, *w.shape):  # no products; and XLA refuses g as a window
        return None, None
    x_spec, w_spec, z_spec = dimension_numbers
    s, r, d = how["window_strides"], how["rhs_dilation"], how["lhs_dilation"]
    c_groups, n_groups = how["feature_group_count"], how["batch_group_count"]
    convolve = partial(_convolve, dtype=g.dtype, like_forward=how)
    p = [below for below, _ in how["padding"]]

    def gradient_of_x():
        groups = c_groups * n_groups  # at least one of them is 1
        window, low = _mirrored(w, w_spec, groups, r, p)
        g_x = convolve(g, window, x, low, (d, s, r), (z_spec, _swap(w_spec), x_spec), (groups, 1))
        return _move_groups(g_x, n_groups, x_spec[1], x_spec[0])

    swapped = tuple(map(_swap, (x_spec, z_spec, w_spec)))
    return gradient_of_x, lambda: convolve(x, g, w, p, (r, d, s), swapped, (n_groups, c_groups))


def _mirrored(w, spec, groups, dilation, low):
    """The window w backwards, with the groups among its other channels, and its padding below."""
    window = lax.rev(_move_groups(w, groups, *spec[:2]), spec[2:])
    steps = zip(dilation, spec[2:], low, strict=True)
    return window, [r * (w.shape[axis] - 1) - p for r, axis, p in steps]


def _convolve(a, b, like, low, steps, specs, groups, *, dtype, like_forward):
    """The convolution of a with the window b, padded above to have the lengths and type of `like`.

    Args:
        steps: the stride, the dilation of a, the dilation of b.
        specs: the axes of a, of b and of the result, as in `ConvDimensionNumbers`.
        groups: of channels, of examples.
        dtype: what a and b are converted to: they must agree.
        like_forward: the parameters of the forward convolution; precision and type are kept.
    """
    a_sizes, b_sizes, sizes = (
        [array.shape[axis] for axis in spec[2:]]
        for array, spec in zip((a, b, like), specs, strict=True)
    )
    padding = padding_between(low, sizes, steps[0], b_sizes, steps[2], a_sizes, steps[1])
    # Channels go last. In other layouts XLA's CPU backend has no fast convolution inside of loops,
    # where a training step lives: there this makes the gradients of a CNN ten times as fast.
    a, b = lax.transpose(a, _last(specs[0])), lax.transpose(b, (*specs[1][2:], *specs[1][1::-1]))
    end, space = a.ndim - 1, range(a.ndim - 2)
    images = (0, end, *(axis + 1 for axis in space))
    result = lax.conv_general_dilated(
        lax.convert_element_type(a, dtype),
        lax.convert_element_type(b, dtype),
        window_strides=steps[0],
        padding=padding,
        lhs_dilation=steps[1],
        rhs_dilation=steps[2],
        dimension_numbers=lax.ConvDimensionNumbers(images, (end, end - 1, *space), images),
        feature_group_count=groups[0],
        batch_group_count=groups[1],
        precision=like_forward["precision"],
        preferred_element_type=like_forward["preferred_element_type"],
        out_sharding=_jax.gradient_sharding(like, _last(specs[2])),
    )
    order = [_last(specs[2]).index(axis) for axis in range(end + 1)]
    return lax.convert_element_type(lax.transpose(result, order), like.dtype)


def _last(spec):
    """The axes of a layout with the channels last: examples, places, channels."""
    return (spec[0], *spec[2:], spec[1])


def padding_between(low, lengths, strides, windows, window_steps, entries, steps):
    """The padding (below, above) of each axis with which windows fit in `lengths` positions.

    The last window ends at stride · (length − 1) + extent of the window, and there the padded
    entries end too. `low` is the padding below.
    """
    axes = zip(low, lengths, strides, windows, window_steps, entries, steps, strict=True)
    return tuple(
        (below, stride * (length - 1) + _extent(window, apart) - below - _extent(n, step))
        for below, length, stride, window, apart, n, step in axes
    )


def _extent(entries, step):
    """How many places the entries take when they stand `step` apart."""
    return step * (entries - 1) + 1 if entries else 0


def _swap(spec):
    """The layout in which examples count as channels and channels as examples."""
    return (spec[1], spec[0], *spec[2:])


def _move_groups(a, groups, source, target):
    """Take the leading factor `groups` out of axis `source`; make it that of axis `target`."""
    if groups == 1:
        return a
    shape = list(a.shape)
    shape[source] //= groups
    split = lax.reshape(a, (*shape[:source], groups, *shape[source:]))
    order = [axis for axis in range(split.ndim) if axis != source]
    order.insert(target, source)
    shape[target] *= groups
    return lax.reshape(lax.transpose(split, order), shape)
