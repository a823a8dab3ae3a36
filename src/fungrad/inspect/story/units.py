"""The steps that a program's author wrote: each call or operator of the source is one.

What JAX's or fungrad's functions are made of stays together: a softmax is one step, not seven
operations. In a large program a step is what one function, or one `jax.named_scope`, does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from fungrad.inspect.programs import Cutter, Operation, Program, Unit, Value

MOST = 40
"""So many steps are told one by one."""


def units(program: Program, named: set[Value], most: int = MOST) -> list[Unit]:
    """The steps of a program: those of the source if these are at most `most`, or larger ones.

    Args:
        named: the inputs and constants that a step names as what it reads.
    """
    operations, cutter = program.operations, Cutter(program, named)
    steps = list(_apart(cutter, _runs(operations, _as_written)))
    depths = range(max(map(len, map(_parts, operations)), default=0), 0, -1)
    for apart, depth in itertools.product((True, False), depths):
        if len(steps) <= most:
            break
        runs = _runs(operations, lambda o, d=depth: _parts(o)[:d], apart)
        steps = [cutter.unit(run, _title(run, depth)) for run in runs]
    if len(steps) > 3 * most or (
        len(steps) == 1 and len(operations) > most
    ):  # one long function, or one long loop
        size = -(-len(operations) // most)
        runs = [operations[i : i + size] for i in range(0, len(operations), size)]
        name = operations[0].node.function
        titles = (f"{name}[{k}/{len(runs)}]" for k in itertools.count(1))
        steps = [cutter.unit(run, next(titles)) for run in runs]
    return [replace(step, inputs=_floats_first(step.inputs)) for step in steps]


def _floats_first(values: Sequence[Value]) -> tuple[Value, ...]:
    """Labels and conditions come last."""
    return tuple(sorted(values, key=lambda v: not v.is_float))


def _as_written(operation: Operation) -> Any:
    """A place in the source, for what stands there is one step; else the operation itself."""
    frames = operation.frames
    columns_are_known = bool(frames) and frames[0].end_column > 0
    return (frames, operation.node.scope) if columns_are_known else operation


def _parts(operation: Operation) -> tuple[Any, ...]:
    """What an operation is part of, from the outermost inwards: scopes, or functions' calls."""
    if scope := operation.node.scope:
        return tuple(scope.split("/"))
    return tuple((f.function_name, f.start_line) for f in reversed(operation.frames)) or ("",)


def _title(run: Sequence[Operation], depth: int) -> str:
    parts = _parts(run[0])[:depth]
    if run[0].node.scope:
        return "/".join(parts)
    inner = run[0].frames[: -len(parts)]
    if inner or len(run) == 1:
        return inner[-1].function_name if inner else run[0].function
    return f"{parts[-1][0]}:{run[0].node.line}"  # a line of several operations


def _runs(
    operations: Sequence[Operation], key: Callable[[Operation], Any], apart: bool = True
) -> Iterator[list[Operation]]:
    """Operations in a row that have the same key; with `apart`, one run per turn of a loop."""
    run: list[Operation] = []
    for operation in operations:
        again = apart and bool(run) and operation.spot == run[0].spot
        if run and (again or key(run[-1]) != key(operation)):
            yield run
            run = []
        run.append(operation)
    if run:
        yield run


def _apart(cutter: Cutter, runs: Iterator[list[Operation]]) -> Iterator[Unit]:
    """A unit per run; a run that hands on several values is told operation by operation."""
    for run in runs:
        whole = cutter.unit(run, run[-1].function)
        if len(whole.outputs) <= 1:
            yield whole
        else:
            yield from (cutter.unit([one], one.function) for one in run)
