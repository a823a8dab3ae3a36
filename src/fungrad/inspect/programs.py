"""A graph as a flat list of operations: the functions that the user jitted are entered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fungrad import _jax
from fungrad.graph import Graph, Node
from fungrad.passes import read

# What fungrad's models are made of is shown like a model of the user's.
_MODELS = str(Path(__file__).parents[1] / "models")
_ENTERED = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}

# What stands between an operator of the user's and its primitive.
_MACHINERY = {"op", "meth", "reraise_with_filtered_traceback", "cache_miss", "run_python_pjit"}
_MACHINERY |= {"current", "bind", "bind_with_trace", "process_primitive"}


class Value:
    """An array of the program: an input, a constant (then it has a `constant`), or a result."""

    def __init__(self, aval: Any, constant: Any = None):
        self.aval, self.constant = aval, constant

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def is_float(self) -> bool:
        return _jax.is_differentiable(self.aval)


@dataclass(frozen=True, eq=False)
class Operation:
    """An equation between values, and the calls that were entered on the way to it."""

    equation: Any
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    path: tuple[Node, ...] = ()

    @property
    def primitive(self) -> str:
        return self.equation.primitive.name

    @cached_property
    def node(self) -> Node:
        return Node(self.equation, "", self.path)

    @cached_property
    def _calls(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        frames, library = _jax.calls_of(self.equation, _MODELS)
        around = [
            frame
            for node in reversed(self.path)
            for frame in _jax.calls_of(node.equation, _MODELS)[0]
        ]
        return (*frames, *around), library

    @property
    def frames(self) -> tuple[Any, ...]:
        """The user's frames, from the innermost outwards."""
        return self._calls[0]

    @property
    def spot(self) -> tuple[Any, ...]:
        """Where it is in the code, the library's too, and what: as in another turn of a loop."""
        return (*self._calls, self.primitive)

    @property
    def function(self) -> str:
        """The name of the function that the user called here; "" for an operator."""
        names = map(_function_name, reversed(self._calls[1]))
        called = next((name for name in names if name not in _MACHINERY), "")
        called = "" if called.startswith("operator_") else called
        return (self.node.callee or called).lstrip("_")

    def __call__(self, *inputs: Any) -> list[Any]:
        return _jax.bind(self.equation, inputs)


def _function_name(frame: tuple[Any, int]) -> str:
    """The name of a library's function, or of the class whose instance is called."""
    *outer, name = frame[0].co_qualname.split(".")
    of_class = name == "__call__" and outer and outer[-1] != "ufunc"
    return (outer[-1] if of_class else name.strip("_")).lstrip("_")


@dataclass(frozen=True, eq=False)
class Unit:
    """Operations that are told as one step.

    Attributes:
        operations: in program order.
        inputs: the values from elsewhere that it reads, constants of no name excepted.
        outputs: those of its values that are read elsewhere.
        title: the name of the function or scope, "" for an operator.
    """

    operations: tuple[Operation, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    title: str

    def __call__(self, *inputs: Any) -> list[Any]:
        return self.run(dict(zip(self.inputs, inputs, strict=True)))

    def run(self, known: dict[Value, Any]) -> list[Any]:
        """Its outputs, given the values of what it reads."""
        values = dict(known)
        for operation in self.operations:
            given = [values.get(v, v.constant) for v in operation.inputs]
            values.update(zip(operation.outputs, operation(*given), strict=True))
        return [values[v] for v in self.outputs]


@dataclass(frozen=True, eq=False)
class Program:
    """A graph whose calls by the user are entered.

    Attributes:
        inputs, outputs: its values.
        constants: the arrays that the function closes over.
        operations: those that the outputs need, in order.
        given: the names that `fungrad.name` gave to results.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    constants: tuple[Value, ...]
    operations: tuple[Operation, ...]
    given: dict[Value, str]


# --- Reading a graph ----------------------------------------------------------------------------


def program(graph: Graph) -> Program:
    """The operations of a graph, those of the user's jits among them, without dead ones."""
    inputs = [Value(v.aval) for v in graph.jaxpr.jaxpr.invars]
    operations, constants, outputs = _entered(graph.jaxpr, inputs, ())
    needed, kept = set(outputs), []
    for operation in reversed(operations):
        if not needed.isdisjoint(operation.outputs):
            needed.update(operation.inputs)
            kept.append(operation)
    return _with_names(tuple(inputs), outputs, tuple(constants), kept[::-1])


def _with_names(
    inputs: tuple[Value, ...],
    outputs: Sequence[Value],
    constants: tuple[Value, ...],
    operations: Sequence[Operation],
) -> Program:
    """The program without the operations that name a result which is used for nothing else."""
    made = {v for o in operations for v in o.outputs}
    uses = Counter([*(v for o in operations for v in o.inputs), *outputs])
    same: dict[Value, Value] = {}
    given, kept = {}, []
    for operation in operations:
        operation = replace(operation, inputs=tuple(same.get(v, v) for v in operation.inputs))
        name, result = operation.node.name, operation.inputs[:1]
        if name and result[0] in made and uses[result[0]] == 1:
            same[operation.outputs[0]] = result[0]
            given[result[0]] = name
            uses[result[0]] = uses[operation.outputs[0]]
        else:
            kept.append(operation)
            given.update({v: name for v in operation.outputs if name})
    outputs = tuple(same.get(v, v) for v in outputs)
    return Program(inputs, outputs, constants, tuple(kept), given)


def _entered(
    graph: Any, inputs: Sequence[Value], path: tuple[Node, ...]
) -> tuple[list[Operation], list[Value], list[Value]]:
    """The operations, constants and outputs of a graph with these inputs."""
    constants = [Value(v.aval, x) for v, x in zip(graph.jaxpr.constvars, graph.consts, strict=True)]
    values: dict[Any, Any] = dict(zip(graph.jaxpr.constvars, constants, strict=True))
    values.update(zip(graph.jaxpr.invars, inputs, strict=True))

    def value(variable):
        at = read(values, variable)
        return at if isinstance(at, Value) else Value(variable.aval, at)

    operations: list[Operation] = []
    for equation in graph.jaxpr.eqns:
        given = tuple(map(value, equation.invars))
        if _is_the_users(equation):
            (inner,) = _jax.subgraphs(equation)
            within = _entered(inner, given, (*path, Node(equation, "", path)))
            operations += within[0]
            constants += within[1]
            outputs = within[2]
        else:
            outputs = [Value(v.aval) for v in equation.outvars]
            operations.append(Operation(equation, given, tuple(outputs), path))
        values.update(zip(equation.outvars, outputs, strict=True))
    return operations, constants, [value(v) for v in graph.jaxpr.outvars]


def _is_the_users(equation: Any) -> bool:
    """Whether it calls a function that was written outside of JAX and fungrad."""
    if equation.primitive.name not in _ENTERED:
        return False
    (graph,) = _jax.subgraphs(equation)
    lines = (_jax.line_of(inner)[1] for inner in graph.jaxpr.eqns)
    return any(lines) or any(map(_is_the_users, graph.jaxpr.eqns))


# --- Parts of a program -------------------------------------------------------------------------


class Cutter:
    """Makes units of runs of operations."""

    def __init__(self, program: Program, named: set[Value]):
        self.named = named
        self.last: dict[Value, int] = {}
        self.place = {id(o): i for i, o in enumerate(program.operations)}
        for i, operation in enumerate(program.operations):
            self.last.update(dict.fromkeys(operation.inputs, i))
        self.last.update(dict.fromkeys(program.outputs, len(program.operations)))

    def unit(self, run: Sequence[Operation], title: str) -> Unit:
        """What the operations of a run read, and what of them is read later."""
        made = [v for operation in run for v in operation.outputs]
        read = dict.fromkeys(v for operation in run for v in operation.inputs)
        inputs = [v for v in read if v.constant is None or v in self.named]
        end = self.place[id(run[-1])]
        outputs = [v for v in made if self.last.get(v, -1) > end]
        return Unit(tuple(run), tuple(v for v in inputs if v not in made), tuple(outputs), title)
