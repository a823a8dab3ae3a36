"""Where the values that cross a cut are made: in a graph, or in one that it calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fungrad import _jax, placing
from fungrad.graph import Node

AGAIN = "rematted_computation"
"""The scope of what the backward half does again (saving.py)."""

_WAITING = ("arrival", "awaiting")
"""What only says when that is done (replay.py)."""


@dataclass(frozen=True, eq=False)
class Level:
    """A graph, and the call that holds it, if there is one.

    Attributes:
        graph: the graph.
        node: the call, `None` for the graph at the top.
        parent: the level that the call is in.
        steps: the lengths of the loops around, outermost first.
    """

    graph: Any
    node: Node | None = None
    parent: Level | None = None
    steps: tuple[int, ...] = ()

    @cached_property
    def producer(self) -> dict[Any, Any]:
        """The equation that makes a variable."""
        return {v: e for e in self.graph.jaxpr.eqns for v in e.outvars}

    @property
    def path(self) -> tuple[Node, ...]:
        """The calls around the graph, outermost first."""
        return () if self.node is None else (*self.node.path, self.node)

    def inside(self, equation: Any) -> list[Level]:
        """The levels of the graphs that an equation of this one holds."""
        node = Node(equation, "", self.path)
        is_loop = equation.primitive.name == "scan"
        steps = (*self.steps, equation.params["length"]) if is_loop else self.steps
        return [Level(graph, node, self, steps) for graph in _jax.subgraphs(equation)]


@dataclass(frozen=True, eq=False)
class Made:
    """Where a value is made.

    Attributes:
        level: the level of the innermost graph that makes it, or whose input it is.
        variable: its variable there.
        stacks: how many of the leading axes of the value are steps of loops.
        carried: whether it is handed from one step of a loop to the next.
    """

    level: Level
    variable: Any
    stacks: int = 0
    carried: bool = False

    @property
    def equation(self) -> Any:
        """The equation that makes it; `None` if it is an input of the program, or a constant."""
        return self.level.producer.get(self.variable)

    @property
    def node(self) -> Node:
        """The operation that makes it; the call, if it is handed on as the call was given it."""
        made_here = self.equation is not None
        return Node(self.equation, "", self.level.path) if made_here else self.level.path[-1]

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from every other value: two variables may stand for one."""
        calls = (id(node.equation) for node in self.level.path)
        return (*calls, self.variable, self.stacks, self.carried)


def made(level: Level, variable: Any) -> Made:
    """Where a value is made, seen from a graph that has it: calls that return it are entered."""
    here, seen = Made(level, variable), set()
    while here.key not in seen and not isinstance(here.variable, _jax.Literal):
        seen.add(here.key)  # what comes again is a carry that stays what it is
        step = _inwards(here) if here.equation is not None else _outwards(here)
        if step is None:
            break
        here = step
    return here


def _inwards(here: Made) -> Made | None:
    """The same value as an output of the graph that the equation calls."""
    equation, inner = here.equation, here.level.inside(here.equation)
    place = equation.outvars.index(here.variable)
    branches = equation.primitive.name == "cond"
    if not branches and (len(inner) != 1 or not _returns_as(equation, inner[0])):
        return None
    stacks = here.stacks
    if equation.primitive.name == "scan":
        _, carry, _ = _jax.scan_operands(equation.params, equation.invars)
        stacks += place >= len(carry)
    answers = [replace(here, level=at, variable=_output(at, place), stacks=stacks) for at in inner]
    # Branches that do not fill a slot hand on a constant.
    return next((answer for answer in answers if not _is_filler(answer)), answers[0])


def _returns_as(equation: Any, inner: Level) -> bool:
    """Whether the outputs of a call are those of the graph that it calls."""
    jaxpr = inner.graph.jaxpr
    return (len(jaxpr.invars), len(jaxpr.outvars)) == (len(equation.invars), len(equation.outvars))


def _output(level: Level, place: int) -> Any:
    return level.graph.jaxpr.outvars[place]


def _is_filler(answer: Made) -> bool:
    equation = answer.equation
    return isinstance(answer.variable, _jax.Literal) or (
        equation is not None and all(isinstance(v, _jax.Literal) for v in equation.invars)
    )


def _outwards(here: Made) -> Made | None:
    """The same value as an operand of the call; a carry is what the step before made."""
    level, node = here.level, here.level.node
    if level.parent is None or node is None or here.variable not in level.graph.jaxpr.invars:
        return None
    place = level.graph.jaxpr.invars.index(here.variable)
    operands = node.equation.invars
    if node.primitive == "scan":
        consts, carry, _ = _jax.scan_operands(node.params, operands)
        if len(consts) <= place < len(consts) + len(carry):
            return replace(here, variable=_output(level, place - len(consts)), carried=True)
    offset = len(operands) - len(level.graph.jaxpr.invars)  # of cond, the index comes first
    return replace(here, level=level.parent, variable=operands[offset + place])


def repeated(level: Level) -> Iterator[tuple[Level, Any, list[Any]]]:
    """What the backward half does again, at this level and further in.

    Yields:
        The level, a variable that is read by what is done for the first time, and the equations
        that compute it again, in their order.
    """
    equations = level.graph.jaxpr.eqns
    again = [e for e in equations if _is_again(e)]
    first = [e for e in equations if not _is_again(e)]
    read = [v for e in first for v in e.invars] + list(level.graph.jaxpr.outvars)
    read = {v for v in read if not isinstance(v, _jax.Literal)}
    for equation in again:
        for variable in equation.outvars:
            if variable in read and equation.primitive.name not in _WAITING:
                yield level, variable, _chain(level, variable)
    for equation in first:
        for inner in level.inside(equation):
            yield from repeated(inner)


def read_again(level: Level) -> set[Any]:
    """What the equations at this level read that do something again."""
    again = [v for e in level.graph.jaxpr.eqns if _is_again(e) for v in e.invars]
    return {v for v in again if not isinstance(v, _jax.Literal)}


def with_nothing_repeated(graph: Any) -> Any:
    """A graph that does not tell what is repeated in it: a gradient inside of it may say so."""
    return _out_of_scope(graph) if _says_so(graph) else graph


def _out_of_scope(graph: Any) -> Any:
    jaxpr = graph.jaxpr
    return _jax.ClosedJaxpr(jaxpr.replace(eqns=list(map(_unsaid, jaxpr.eqns))), graph.consts)


def _unsaid(equation: Any) -> Any:
    """The equation out of the scope of what is repeated, and all inside of it."""
    if _jax.subgraphs(equation):
        equation = placing.with_subgraphs(equation, _out_of_scope)
    source = equation.source_info
    kept = tuple(x for x in source.name_stack.stack if not _is_of_again(x))
    stack = type(source.name_stack)(kept)
    return equation.replace(source_info=source.replace(name_stack=stack))


def _says_so(graph: Any) -> bool:
    inside = (inner for e in graph.jaxpr.eqns for inner in _jax.subgraphs(e))
    return any(map(_is_again, graph.jaxpr.eqns)) or any(map(_says_so, inside))


def _is_again(equation: Any) -> bool:
    return any(map(_is_of_again, equation.source_info.name_stack.stack))


def _is_of_again(part: Any) -> bool:
    """Whether a part of a scope, a name or a transformation, says that something is repeated."""
    return getattr(part, "name", None) == AGAIN


def _chain(level: Level, variable: Any) -> list[Any]:
    waiting, found = [variable], set()
    while waiting:
        v = waiting.pop()
        equation = None if isinstance(v, _jax.Literal) else level.producer.get(v)
        if equation is not None and id(equation) not in found and _is_again(equation):
            found.add(id(equation))
            waiting += equation.invars
    chain = [e for e in level.graph.jaxpr.eqns if id(e) in found]
    return [e for e in chain if e.primitive.name not in _WAITING]
