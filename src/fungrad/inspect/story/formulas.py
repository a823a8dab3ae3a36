"""How a step is written: its function, and its Jacobian by each of its inputs.

What is known by the name of a function only, such as softmax, is held against the numbers before it
is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from fungrad.inspect.programs import Unit, Value
from fungrad.inspect.story.jacobians import Local, diagonal, grouped, identity, matrix
from fungrad.inspect.story.known import FUNCTIONS, SYMBOLS, Slope
from fungrad.inspect.story.naming import index_of
from fungrad.inspect.story.numerals import number
from fungrad.inspect.story.writers import WRITERS, Operand, elementwise, product

MOVES = {"broadcast_in_dim", "reshape", "squeeze", "convert_element_type", "copy", "copy_p"}
MOVES |= {"expand_dims", "stop_gradient", "name"}


@dataclass(frozen=True)
class Written:
    """A step in letters: the right side of its formula, and a `Local` for each input."""

    text: str
    locals: dict[Value, Local]


def written(unit: Unit, names: dict[Value, str], arrays: dict[Value, Any]) -> Written:
    """A step in letters.

    Args:
        names: of its inputs and outputs.
        arrays: their values.
    """
    inputs = [names[v] for v in unit.inputs]
    generic = Written(_called(unit, names), {})
    if len(unit.outputs) != 1:
        return generic
    (out,) = unit.outputs
    if (index := index_of(unit)) is not None:
        return Written(f"{inputs[0]}{index}", _entry(unit, index))
    if (known := _function(unit, names, arrays)) is not None:
        return known
    main = [o for o in unit.operations if o.primitive not in MOVES]
    if len(main) > 1:
        return generic
    if not main:
        return _moved(unit, names)
    operands = [_operand(v, unit, names) for v in main[0].inputs]
    writer = WRITERS.get(main[0].primitive, elementwise)
    answer = writer(main[0], operands, names[out], out.shape)
    if answer is None:
        return generic
    text, locals = answer
    found: dict[Value, Local] = {}
    for operand, local in zip(operands, locals, strict=True):
        if operand.source is not None and local is not None:
            found[operand.source] = (
                _both(found[operand.source], local) if (operand.source in found) else local
            )
    return Written(text, found)


def _called(unit: Unit, names: dict[Value, str]) -> str:
    """f(x, y), or [] and infix operators as they are written."""
    last = unit.operations[-1]
    texts = [names[v] for v in unit.inputs]
    if unit.title == "getitem":
        return f"{texts[0]}[…]"
    if len(unit.operations) == 1:
        texts = [_operand(v, unit, names).text for v in last.inputs]
    symbol = SYMBOLS.get(last.primitive, "") if not unit.title else ""
    if symbol.count("{}") == len(texts):
        return symbol.format(*map(grouped, texts))
    return f"{unit.title.lstrip('_') or last.primitive}({', '.join(texts)})"


def _both(first: Local, second: Local) -> Local:
    """An input that is read twice, as in x · x."""
    if first.step("") == second.step(""):
        return Local(f"2 {first.text}", lambda g: f"2 · {first.step(g)}")
    text = f"{first.text} + {second.text}" if first.text and second.text else ""
    return Local(text, lambda g: f"{first.step(g)} + {second.step(g)}")


def _operand(value: Value, unit: Unit, names: dict[Value, str]) -> Operand:
    """What is read, seen through the operations that only move numbers."""
    made = {o.outputs[0]: o for o in unit.operations if o.primitive in MOVES}
    while value in made and value not in unit.inputs:
        value = made[value].inputs[0]
    if value in unit.inputs:
        return Operand(names[value], value.shape, value)
    constant = value.constant
    flat = np.unique(np.asarray(constant)) if constant is not None else np.zeros(2)
    return Operand(number(flat[0]) if flat.size == 1 else "c", value.shape, None)


def _moved(unit: Unit, names: dict[Value, str]) -> Written:
    """The same numbers in another shape or format."""
    x, (out,) = names[unit.inputs[0]] if unit.inputs else "c", unit.outputs
    if not unit.inputs:
        return Written(unit.title or unit.operations[-1].primitive, {})
    shape = unit.inputs[0].shape
    if shape == out.shape:
        return Written(x, {unit.inputs[0]: identity(out.shape, shape)})
    if int(np.prod(shape)) == int(np.prod(out.shape)):
        local = Local("I", lambda g: f"{g} as {list(shape)}")
        return Written(f"{x} as {list(out.shape)}", {unit.inputs[0]: local})
    local = identity(out.shape, shape)
    return Written(f"{x} broadcast to {list(out.shape)}", {unit.inputs[0]: local})


def _entry(unit: Unit, index: str) -> dict[Value, Local]:
    """z = x[i]: a row of zeros and a one."""
    if re.fullmatch(r"\[\d+\]", index) and len(unit.inputs[0].shape) == 1:
        row = f"e{index}ᵀ"
        return {unit.inputs[0]: Local(row, lambda g: f"{g} · {row}")}
    return {unit.inputs[0]: Local("", lambda g: f"{g} at {index}, 0 elsewhere")}


# --- Functions by name --------------------------------------------------------------------------


def _function(unit: Unit, names: dict[Value, str], arrays: dict[Value, Any]) -> Written | None:
    if unit.title == "linear":
        return _linear(unit, names)
    entry, (out,) = FUNCTIONS.get(unit.title), unit.outputs
    if (
        entry is None
        or not unit.inputs
        or not all(_is_real(arrays[v]) for v in (*unit.inputs, out))
    ):
        return None
    given = [np.asarray(arrays[v], float) for v in unit.inputs]
    letters = [names[v] for v in unit.inputs]
    answer = entry(names[out], letters, np.asarray(arrays[out], float), *given)
    if answer is None:
        return None
    text, slopes = answer
    pairs = zip(unit.inputs, slopes, strict=True)
    return Written(text, {v: _local(slope, out.shape, v.shape) for v, slope in pairs if slope})


def _is_real(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating) or x.dtype.kind in "biu"


def _local(slope: Slope, out: tuple[int, ...], shape: tuple[int, ...]) -> Local:
    if slope.is_diagonal:
        local = diagonal(slope.text, out, shape)
        return local._replace(claim=lambda g: g * slope.array)
    if slope.of_rows:
        return Local("", lambda g: f"{slope.text} · diag({g})", lambda g: g[:, None] * slope.array)
    claim = np.asarray(slope.array)
    return matrix(slope.text)._replace(claim=lambda g: (np.ravel(g) @ claim).reshape(shape))


def _linear(unit: Unit, names: dict[Value, str]) -> Written | None:
    """fg.layers.linear(x, W, b): z = W x + b; of a batch with x in rows, x Wᵀ + b."""
    dot = next((o for o in unit.operations if o.primitive == "dot_general"), None)
    if dot is None or not 2 <= len(unit.inputs) <= 3:
        return None
    operands = [_operand(v, unit, names) for v in dot.inputs]
    answer = product(dot, operands, "", ())
    if answer is None or {o.source for o in operands} != set(unit.inputs[:2]):
        return None
    text, locals = answer
    found = {o.source: local for o, local in zip(operands, locals, strict=True) if o.source}
    for b in unit.inputs[2:]:
        text = f"{text} + {names[b]}"
        found[b] = identity(unit.outputs[0].shape, b.shape)
    return Written(text, found)
