"""Why a gradient ends where it is blocked, in words, and the usual cure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from fungrad import _jax, costs
from fungrad.graph import Node
from fungrad.inspect.diagnosis import cures
from fungrad.inspect.diagnosis.calls import CustomVJP
from fungrad.inspect.diagnosis.causes import Reason, reason_of
from fungrad.inspect.diagnosis.facts import Facts, functions_of
from fungrad.inspect.diagnosis.record import Part
from fungrad.inspect.diagnosis.trails import follow, is_all_zero
from fungrad.inspect.diagnosis.values import Gathered, Operation, Place, Value, first, not_finite
from fungrad.inspect.diagnosis.zeros import Block, random_like
from fungrad.rulebook import Rulebook


@dataclass(frozen=True, eq=False)
class Verdict:
    """Where a gradient ends, and why.

    Attributes:
        place: the operation to blame.
        cause, cure: in words.
        numbers: of what it reads, by what they are.
    """

    place: Place
    cause: str
    cure: str
    numbers: dict[str, Any]


def verdict_on(block: Block, rules: Rulebook) -> Verdict:
    """What is to blame: the operation itself, or what made the zeros that it multiplies by."""
    part = block.part
    place, inputs = part.place(), part.inputs
    if block.kind == "zero slope":
        if (verdict := _by_overflow(part, rules)) is not None:
            return verdict
        for value in _factors(block):
            made, given = _maker_of_zeros(value)
            if made is not None:
                cause, cure = _reason_of_zeros(made)
                cause = f"{cause}; {_name(part.node)} multiplies by these zeros"
                return Verdict(made.place, cause, cure, _numbers(made.inputs))
            if given is not None:
                what = f"the argument {given.name}" if given.is_argument else given.name
                cause = f"{_name(part.node)} multiplies by zero: {what} is zero everywhere"
                return Verdict(place, cause, cures.NOT_ZERO, _numbers(inputs))
    if (verdict := _by_author(block)) is not None:
        return verdict
    cause, cure = _reason(block)
    return Verdict(place, cause, cure, _numbers(inputs))


def _by_author(block: Block) -> Verdict | None:
    """What makes zeros in the backward function that an author wrote."""
    part, frame = block.part, block.part.frame
    if not isinstance(part, CustomVJP) or block.kind != "zero slope" or block.is_idle:
        return None
    if _by_slope(part.node, [value.array for value in part.inputs]) is not None:
        return None
    arriving = [frame.gradients.get(v) for v in part.equation.outvars]
    zeros = part.pull(arriving, frame.takes(part.equation))[block.position]
    if zeros is None or zeros.op is None:
        return None
    made, given = _maker_of_zeros(zeros)
    what = "zeros are made" if made is None or given is not None else _reason_of_zeros(made)[0]
    cause = f"{what}, in the derivative that the author of {_name(part.node)} wrote"
    op = made or zeros.op
    return Verdict(op.place, cause, cures.MEND, _numbers(op.inputs))


def _by_overflow(part: Part, rules: Rulebook) -> Verdict | None:
    """An infinity that was made before, and makes the slope zero, as that of 1 / x at ∞."""
    for value in part.inputs:
        mask = not_finite(value.array)
        if mask.size and mask.all():
            birth = (trail := follow(value, first(mask))).birth
            if birth is not None and birth.op is not None and not trail.is_given:
                facts = Facts(birth, rules)
                cause, cure = reason_of(facts)
                cause = f"{cause}; there the slope of {_name(part.node)} is 0"
                return Verdict(birth.op.place, cause, cure, _numbers(birth.op.inputs))
    return None


def _numbers(inputs: list[Value]) -> dict[str, Any]:
    return {f"x{i}" if len(inputs) > 1 else "x": value.array for i, value in enumerate(inputs)}


def _name(node: Node) -> str:
    return node.callee or node.primitive


# --- The zeros that an operation multiplies by ------------------------------------------------

_PRODUCTS = (
    "mul",
    "div",
    "dot_general",
    "conv_general_dilated",
    "ragged_dot",
    "ragged_dot_general",
)
_POWERS = ("integer_pow", "square", "pow")


def _factors(block: Block) -> list[Value]:
    """What the slope is made of, if it is zero everywhere: a product's other inputs, and what a
    power is taken of, unless the function was given that."""
    name, inputs = block.part.node.primitive, block.part.inputs
    if name in _PRODUCTS:
        others = inputs[: block.position] + inputs[block.position + 1 :]
        return [value for value in others if is_all_zero(value.array)]
    if name in _POWERS and is_all_zero(inputs[0].array):
        return [] if _maker_of_zeros(inputs[0])[0] is None else [inputs[0]]
    return []


def _maker_of_zeros(value: Value) -> tuple[Operation | None, Value | None]:
    """The operation that made an array of zeros, or what is zero without one, such as a weight."""
    last = None
    while True:
        value = value.resolved()
        op = value.op
        if op is None:
            return last, value
        if isinstance(op, Gathered):
            found = op.source(value.index, (0,) * np.ndim(value.array))
            if found is None:
                return last, value
            value = found[0]
            continue
        if not costs.moves(op.place.node.equation):
            last = op
        zero = [i for i, v in enumerate(op.inputs) if is_all_zero(v.array)]
        responsible = [i for i in zero if _matters(op, i, value.index)]
        if not responsible:
            return op, None
        value = op.inputs[responsible[0]]


def _matters(op: Operation, i: int, index: int) -> bool:
    """Whether the output would not be zero but for one input."""
    arrays = [value.array for value in op.inputs]
    arrays[i] = random_like(arrays[i])
    return not is_all_zero(op.run(*arrays)[index])


def _reason_of_zeros(op: Operation) -> Reason:
    node = op.place.node
    inputs = [value.array for value in op.inputs]
    if _underflows(op):
        return f"underflow: the result of {_name(node)} is too small", cures.WIDER_OR_SCALED
    return _by_slope(node, inputs) or (
        f"the result of {_name(node)} is zero everywhere",
        cures.MOVE_OFF,
    )


def _underflows(op: Operation) -> bool:
    """Whether zeros are made of numbers that are too small, and not of terms that cancel."""
    name, arrays = op.place.node.primitive, [value.array for value in op.inputs]
    if any(map(is_all_zero, arrays)) and not name.startswith("exp"):
        return False
    if name in _PRODUCTS:
        return all(map(is_all_zero, op.run(*map(jnp.abs, arrays))))
    return name in (*_POWERS, "exp", "exp2")


def underflow_behind(op: Operation) -> str:
    """The underflow that made the zeros which an operation stumbles over, if one did."""
    for value, role in zip(op.inputs, op.roles, strict=True):
        made, given = (None, value) if role != "in" else _maker_of_zeros(value)
        if is_all_zero(value.array) and made is not None and given is None and _underflows(made):
            node, dtype = made.place.node, made.inputs[0].array.dtype
            where = f"{os.path.basename(node.file)}:{node.line}"
            return f"the 0 is an underflow of {_name(node)} in {dtype}, {where}"
    return ""


# --- By operation -----------------------------------------------------------------------------

_ROUNDING = ("floor", "ceil", "round", "rem", "sign")
_COMPARING = ("eq", "ne", "lt", "le", "gt", "ge", "is_finite", "eq_to", "lt_to", "le_to")
_SATURATING = ("tanh", "logistic", "erf", "erfc", "softmax", "log_softmax", "sigmoid", "logsumexp")
_DYING = ("relu", "relu6", "relu_squared")
_INDEXING = (
    "gather", "slice", "dynamic_slice", "scatter", "dynamic_update_slice", "scatter-update",
    "scatter_apply", "scatter_mul", "scatter_add",
)  # fmt: skip


def _reason(block: Block) -> Reason:
    node = block.part.node
    if block.kind == "branch":
        index = int(np.asarray(block.part.inputs[0].array))
        return f"branch {index} of the cond, which is taken, does not read it", cures.IN_BOTH
    if block.kind == "no gradient":
        return _without_gradient(node)
    names = {_name(node), *functions_of(node)}
    if node.primitive in ("sub", "div") and block.kind == "zero slope":
        return "the terms of its gradient cancel exactly", cures.NO_CANCEL
    if block.kind == "cancels":
        if saturated := names.intersection(_SATURATING):
            return _saturated(sorted(saturated)[0])
        return "the terms of its gradient cancel exactly", cures.NO_CANCEL
    if block.kind == "underflow":
        return _too_small(block)
    inputs = [value.array for value in block.part.inputs]
    found = _by_slope(node, inputs)
    return found or (f"the slope of {_name(node)} is exactly 0 at these numbers", cures.MOVE_OFF)


def _without_gradient(node: Node) -> Reason:
    name = node.primitive
    if name == "stop_gradient":
        return "stop_gradient lets no gradient through", cures.LEAVE_OUT_STOP
    if name in ("argmax", "argmin", "sort", "top_k"):
        return f"{name} returns positions, whose slope is 0 everywhere", cures.SOFTER
    if name in _ROUNDING:
        return f"{name} is a staircase, whose slope is 0 everywhere", cures.STRAIGHT_THROUGH
    if name in _COMPARING:
        what = "the comparison " + name
        return f"{what} returns truth values, which have no gradient", cures.SOFTER
    if name == "while":
        return "only the number of steps of the while loop depends on it", cures.SOFTER
    if name == "convert_element_type":
        dtype = node.outputs[0].dtype
        return f"the conversion to {dtype} cuts the gradient off", cures.STAY_FLOAT
    return f"no gradient passes {_name(node)}", cures.STRAIGHT_THROUGH


def _saturated(name: str) -> Reason:
    return f"{name} is saturated: its slope is exactly 0 at these numbers", cures.UNSATURATE


def _too_small(block: Block) -> Reason:
    dtype = block.part.outputs[0].array.dtype if block.part.outputs else ""
    cause = f"underflow: the gradient times the slope of {_name(block.part.node)} is less than the"
    return f"{cause} least {dtype}, and becomes 0", cures.WIDER_OR_SCALED


def _by_slope(node: Node, inputs: list[Any]) -> Reason | None:
    """What an operation does to an input that no gradient gets back to."""
    name, functions = node.primitive, [_name(node), *functions_of(node)]
    for function in functions:
        if function in _DYING:
            return f"a dead {function}: its input is {_region(inputs[0])}", cures.REVIVE
        if function in ("clip", "hard_tanh", "clamp"):
            return f"{function} is saturated: all entries are beyond its bounds", cures.WIDEN_CLIP
        if function in _SATURATING:
            return _saturated(function)
    if name in ("max", "min", "clamp"):
        return _cut_off(node, inputs)
    if name == "select_n":
        return "the where never takes this branch", cures.CHOOSE_IT
    if name in ("exp", "exp2"):
        return f"underflow: {name} of such numbers is 0", cures.LOG_SPACE
    if name.replace("-", "_") in _INDEXING:
        return f"{name} never reads an entry of it, or writes over all of them", cures.READ_ENTRY
    if name in (*_ROUNDING, *_COMPARING, "convert_element_type", "stop_gradient"):
        return _zero_by_step(node)
    if name in ("integer_pow", "square", "abs", "pow", "cos", "sin", "cosh"):
        return f"the input is where the slope of {name} is exactly 0", cures.MOVE_OFF
    return None


def _region(x: Any) -> str:
    """Where the input of a relu that lets no gradient through is."""
    if np.all(np.asarray(x < 0)):
        return "negative everywhere"
    return "zero or negative everywhere" if np.all(np.asarray(x <= 0)) else "out of bounds"


def _cut_off(node: Node, inputs: list[Any]) -> Reason:
    """max(x, 0) is a relu; another bound clips."""
    literals = [v for v in node.equation.invars if isinstance(v, _jax.Literal)]
    if node.primitive == "max" and any(np.all(np.asarray(v.val) == 0) for v in literals):
        x = next(
            x
            for x, v in zip(inputs, node.equation.invars, strict=True)
            if not isinstance(v, _jax.Literal)
        )
        return f"a dead relu, max(x, 0): its input is {_region(x)}", cures.REVIVE
    if literals:
        word = "below" if node.primitive == "max" else "above"
        return f"saturated: all entries are {word} the bound of {node.primitive}", cures.WIDEN_CLIP
    return f"{node.primitive} takes the other input everywhere", cures.WIDEN_CLIP


def _zero_by_step(node: Node) -> Reason:
    return f"the result of {_name(node)} is zero everywhere", cures.STRAIGHT_THROUGH
