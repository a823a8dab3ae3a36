"""What the values of a program are called.

An argument by its parameter; what the function closes over by its variable; an edge by the name
that `fungrad.name` gave it; an entry of a named array by its index; a result by the variable that
the source assigns it to. What is left is x1, x2, … in order. No two values share a name.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from fungrad.inspect.programs import Operation, Program, Unit, Value


def closed_over(fun: Callable[..., Any]) -> dict[int, str]:
    """The names of the variables that a function closes over, by the identity of their values."""
    try:
        found = inspect.getclosurevars(inspect.unwrap(fun))
    except (TypeError, ValueError):  # no Python function
        return {}
    return {id(x): name for name, x in {**found.globals, **found.nonlocals}.items()}


def names(
    program: Program, units: Sequence[Unit], given: dict[Value, str], cost: str
) -> dict[Value, str]:
    """The name of every value that a unit reads or makes.

    Args:
        given: the names of arguments and constants.
        cost: the symbol of the program's output, which no other value may have.
    """
    found, taken = dict(given), {*given.values(), cost}
    wishes = {v: name for v, name in _wished(program, units) if v not in found}
    for out in program.outputs:
        if out not in found and out not in program.given and out.constant is None:
            found[out] = wishes[out] = cost
    asked = Counter(name for value, name in wishes.items() if value not in found)
    reserved = taken | {name for name, count in asked.items() if count == 1}
    numbered = {name: _numbered(name, reserved, 1) for name in asked}
    free = _numbered("x", reserved, 1 + max(map(_number, reserved), default=0))
    for unit in units:
        for value in (v for v in unit.outputs if v not in found):
            wish = wishes.get(value) or _entry(unit, found)
            if wish is None or (wish in taken and wish not in asked):
                name = next(free)
            elif asked[wish] > 1 or wish in taken:
                name = next(numbered[wish])
            else:
                name = wish
            found[value] = name
            taken.add(name)
            reserved.add(name)
    return found


def _number(name: str) -> int:
    """The k of a name xk."""
    number = re.fullmatch(r"x(\d{1,6})", name)
    return int(number[1]) if number else 0


def _numbered(name: str, taken: set[str], start: int) -> Any:
    """name1, name2, …, those apart that are taken by then."""
    stem = f"{name}_" if name[-1:].isdigit() else name
    return (label for k in count(start) if (label := f"{stem}{k}") not in taken)


# --- Names in the source ------------------------------------------------------------------------


def _wished(program: Program, units: Sequence[Unit]) -> Iterable[tuple[Value, str]]:
    """The values that were given a name, by `fungrad.name` or by an assignment."""
    for i, unit in enumerate(units):
        if len(unit.outputs) == 1:
            after = units[i + 1].operations[0] if i + 1 < len(units) else None
            name = program.given.get(unit.outputs[0]) or _assigned(unit, after)
            if name is not None:
                yield unit.outputs[0], name


def _assigned(unit: Unit, after: Operation | None) -> str | None:
    """The variable to which the source assigns the unit's value, in the outermost function."""
    frames = unit.operations[-1].frames
    for depth in range(1, len(frames) + 1):
        if depth < len(frames) and after is not None and after.spot != unit.operations[0].spot:
            later = after.frames
            goes_on = later[-depth:] == frames[-depth:] and later != unit.operations[0].frames
            if goes_on and not _begins_again(unit, after, depth):
                continue  # the call does not end here
        if name := target(frames[-depth]):
            return name
    return None


def _begins_again(unit: Unit, after: Operation, depth: int) -> bool:
    """Whether what follows is in an earlier line of the same call: the next turn of a loop."""
    now, later = unit.operations[-1].frames, after.frames
    if len(now) <= depth or len(later) <= depth:
        return False
    at, to = now[-depth - 1], later[-depth - 1]
    return (to.start_line, to.end_line) < (at.start_line, at.end_line)


def target(frame: Any) -> str | None:
    """`h` if the source says `h = EXPRESSION` and the frame is at the whole expression."""
    first = linecache.getline(frame.file_name, frame.start_line).encode()
    last = linecache.getline(frame.file_name, frame.end_line).encode()
    if not first or not last or frame.end_column <= 0:
        return None
    before, after = first[: frame.start_column].decode(), last[frame.end_column :].decode()
    assigned = re.fullmatch(r"(?:.*;)?\s*([^\W\d]\w*)\s*(:[^=]*)?=\s*\(?\s*", before)
    is_whole = re.fullmatch(r"\s*\)?\s*(#.*|;.*)?\s*", after)
    return assigned[1] if assigned and is_whole else None


# --- Entries of arrays --------------------------------------------------------------------------


def index_of(unit: Unit) -> str | None:
    """`[0]` or `[:, 1:3]`, if that is all that the unit does."""
    cuts = [o for o in unit.operations if o.primitive == "slice"]
    gone = [o for o in unit.operations if o.primitive == "squeeze"]
    if len(unit.operations) != len(cuts) + len(gone) or len(cuts) > 1 or len(gone) > 1:
        return None
    shape = unit.inputs[0].shape
    params = cuts[0].equation.params if cuts else {}
    if params.get("strides"):
        return None
    starts = params.get("start_indices", (0,) * len(shape))
    stops = params.get("limit_indices", shape)
    squeezed = gone[0].equation.params["dimensions"] if gone else ()
    texts = []
    for axis, (start, stop, size) in enumerate(zip(starts, stops, shape, strict=True)):
        whole = (start, stop) == (0, size)
        texts.append(str(start) if axis in squeezed else ":" if whole else f"{start}:{stop}")
    while len(texts) > 1 and texts[-1] == ":":
        texts.pop()
    return f"[{', '.join(texts)}]"


def _entry(unit: Unit, found: dict[Value, str]) -> str | None:
    """`theta[0]`, if the unit takes that from an array of a name."""
    index = index_of(unit)
    return None if index is None else f"{found[unit.inputs[0]]}{index}"
