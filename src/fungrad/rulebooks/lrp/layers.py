"""A layer as its rule sees it: one affine map z = W x + b, whatever operations it consists of.

`joining` puts the operations of a layer in one call: a product of x and the kernel, of which x
alone is differentiated, then sums with biases, scales by constants (a batch normalisation in
inference is both) and moves of axes. All biases together are b, what the call makes of x = 0; the
scales belong to the kernel: W = diag(s) K. Every rule reads W and b in this sense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad import _jax

PRODUCTS = ("dot_general", "conv_general_dilated")
SHIFTS = ("add", "sub")
SCALES = ("mul", "div", "neg")
TAP = "_tap"  # by which fungrad.nodes reads gradients


def is_tap(equation: Any) -> bool:
    """Whether an equation hands its first input on, and its relevance to the second one too."""
    return _jax.function_name(equation) == TAP


def kernel_axes(product: Any, kernel: int) -> dict[int, int]:
    """Which axes of the product's output are axes of the kernel, its operand of that number."""
    numbers = product.params["dimension_numbers"]
    if product.primitive.name == "conv_general_dilated":
        if kernel == 0:
            return {numbers.out_spec[0]: numbers.lhs_spec[0]}
        return {numbers.out_spec[1]: numbers.rhs_spec[0]}
    contracted, batch = numbers
    shapes = [v.aval.shape for v in product.invars]
    free = [
        [i for i in range(len(shapes[k])) if i not in (*contracted[k], *batch[k])] for k in (0, 1)
    ]
    start = len(batch[0]) + (len(free[0]) if kernel else 0)
    return {**dict(enumerate(batch[kernel])), **dict(enumerate(free[kernel], start))}


@dataclass(frozen=True)
class Layer:
    """z = W x + b.

    Attributes:
        x: the input.
        W: the kernel, with all scales.
        b: the bias, of z's shape, or a scalar 0.
        z: the output.
        steps: the operations of the call.
        place: which operand of the product is x.
    """

    x: Any
    W: Any
    b: Any
    z: Any
    steps: tuple[Any, ...]
    place: int

    @classmethod
    def of(cls, graph: Any, z: Any, inputs: Any) -> Layer:
        """The layer that a call of `joining` is; its inputs are x, the kernel, then the others."""
        product, *others = graph.jaxpr.eqns
        x, kernel, *_ = inputs
        place = product.invars.index(graph.jaxpr.invars[0])
        values = dict(zip(graph.jaxpr.invars, inputs, strict=True))
        start = product.outvars[0].aval
        names = {e.primitive.name for e in others}
        shift, W = jnp.zeros((), z.dtype), kernel
        if not names.isdisjoint(SHIFTS):
            zero = jnp.zeros(start.shape, start.dtype)
            shift = _after(others, zero, values, SHIFTS + SCALES)
        if not names.isdisjoint((*SCALES, "sub")):
            scales = _scales(others, start, z, values)
            W = kernel * _on_kernel(scales, kernel_axes(product, 1 - place), kernel)
        return cls(x, W, shift, z, (product, *others), place)

    def product(self, x: Any, W: Any) -> Any:
        """W x in the shape of z, for any x and kernel."""
        product, *others = self.steps
        operands = (x, W) if self.place == 0 else (W, x)
        return _after(others, _jax.bind(product, operands)[0], {}, ())

    def pulled_back(self, s: Any, W: Any) -> Any:
        """Wᵀ s."""
        transposed = jax.linear_transpose(lambda x: self.product(x, W), self.x)
        return transposed(s)[0]

    def moved_back(self, R: Any, tap: Any) -> Any:
        """The relevance of z where `tap` is on its way to z."""
        behind = self.steps[self.steps.index(tap) + 1 :]
        aval = tap.outvars[0].aval
        like = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
        return jax.linear_transpose(lambda value: _after(behind, value, {}, ()), like)(R)[0]

    def tap_of(self, variable: Any) -> Any:
        """The tap that reads beside into a variable, if there is one among the steps."""
        taps = [step for step in self.steps if is_tap(step) and step.invars[1] is variable]
        return taps[0] if taps else None


def _after(steps: Any, value: Any, values: Any, kept: tuple[str, ...]) -> Any:
    """What the steps after the product make of a value; of sums and scales, those that are kept.

    A difference from a bias, b − z, is kept as a scale by −1 if shifts are not.
    """
    for step in steps:
        name = step.primitive.name
        if name in SHIFTS + SCALES:
            operands = [_operand(v, values) for v in step.invars]
            at = next(i for i, x in enumerate(operands) if x is None)
            if name in kept:
                value = _jax.bind(step, [value if x is None else x for x in operands])[0]
            elif name == "sub" and at == 1 and kept:
                value = lax.neg(value)
        elif name != "name" and not is_tap(step):  # which nothing transposes
            (value,) = _jax.bind(step, [value])
    return value


def _operand(variable: Any, values: Any) -> Any:
    """A constant operand's value; `None` is the value that the steps hand on."""
    if isinstance(variable, _jax.Literal):
        return variable.val
    return values.get(variable)


def _scales(steps: Any, start: Any, z: Any, values: Any) -> Any:
    """The factor by which each entry of the product enters z."""
    into = jax.linear_transpose(
        lambda value: _after(steps, value, values, SCALES),
        jax.ShapeDtypeStruct(start.shape, start.dtype),
    )
    return into(jnp.ones_like(z))[0]


def _on_kernel(scales: Any, axes: dict[int, int], kernel: Any) -> Any:
    """Scales that vary along the kernel's own axes alone, as an array that multiplies it."""
    own = tuple(slice(None) if axis in axes else 0 for axis in range(scales.ndim))
    targets = [axes[axis] for axis in sorted(axes)]
    small = scales[own].transpose(np.argsort(targets)).astype(kernel.dtype)
    missing = [axis for axis in range(kernel.ndim) if axis not in targets]
    return jnp.expand_dims(small, missing)
