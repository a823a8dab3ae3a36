"""`saved`: what the forward pass keeps for the backward pass, what is repeated instead, and why.

The function is read in type only, and cut in two as a gradient of it is (saving.py). What crosses
the cut is what is kept; what the backward half does again stands there in a scope of its own.
"""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import tree_leaves

from fungrad import _jax, budget, costs, saving
from fungrad.crossing import operands_of
from fungrad.graph import Node
from fungrad.inspect import by_jax, reasons
from fungrad.inspect.arguments import named_leaves
from fungrad.inspect.places import Level, Made, made, read_again, repeated, with_nothing_repeated
from fungrad.inspect.tables import in_columns, in_markdown, readable
from fungrad.passes import Settings
from fungrad.pullback import settings_of
from fungrad.rulebook import Rulebook
from fungrad.transforms import as_indices, of_chosen, vjp


def saved(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    rules: Rulebook | None = None,
    save: Any = None,
) -> Callable[..., SavedValues]:
    """What is kept between the passes of a gradient, what is repeated, why: `saved(fun)(*args)`.

    It speaks of the compiled program, `jax.jit(fungrad.grad(fun))`. A value of a loop counts once
    for each step. Arguments, and arrays that the function closes over, cost nothing to keep.

    Args:
        fun: a function of pytrees of arrays; its output need not be a scalar.
        argnums: the positional argument, or several, to differentiate with respect to.
        has_aux: `fun` returns a pair whose second entry is not differentiated.
        rules: the rulebook; `None` is `fungrad.rules`.
        save: what the forward pass may keep, as for `fungrad.grad`.

    Returns:
        A function of the arguments of `fun`, arrays or `jax.ShapeDtypeStruct`s; nothing is
        computed.

    Raises:
        TypeError: `fun` is no function; when called, `argnums` names no argument.

    >>> import fungrad as fg
    >>> import jax, jax.numpy as jnp
    >>> W = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    >>> table = fg.saved(lambda W, x: jax.nn.relu(W @ x).sum())(W, jnp.ones(256, jnp.float32))
    >>> [(value.dtype.name, value.shape, value.bytes) for value in table.kept]
    [('bool', (256,), 256)]
    >>> [value.name for value in table.arguments]
    ['x']
    """
    if not callable(fun):
        raise TypeError(f"fun must be a function, got {fun!r}")
    argnums, settings = as_indices(argnums), settings_of(rules, save)

    def look(*args: Any, **kwargs: Any) -> SavedValues:
        program = _read(fun, argnums, has_aux, args, kwargs, settings.rules)
        masks = program.active, program.wanted, (True,) * len(program.wanted)
        chosen = settings
        if isinstance(save, int | np.integer):
            effort = budget.effort_within(program.graph, *masks, settings)
            chosen = settings._replace(save=effort)
        cut = saving.split(program.graph, *masks, chosen)
        values = (*_kept(cut, chosen), *_repeated(cut, chosen), *_arguments(cut, program.names))
        return SavedValues(values, program, settings)

    return look


# --- Reading ----------------------------------------------------------------------------------


class Program(NamedTuple):
    """A function that is differentiated.

    Attributes:
        graph: its graph; what it closes over leads the inputs.
        names: the names of the inputs.
        active: which inputs are differentiated.
        wanted: at which outputs a gradient arrives.
    """

    graph: Any
    names: list[str]
    active: tuple[bool, ...]
    wanted: tuple[bool, ...]


def _read(
    fun: Callable[..., Any], argnums: Any, has_aux: bool, args: Any, kwargs: Any, rules: Rulebook
) -> Program:
    names, leaves, rebuild = named_leaves(fun, args, kwargs)
    places = [i for i, leaf in enumerate(leaves) if _is_array(leaf)]
    chosen: list[bool] = []
    results = 0

    def flat(*values):
        nonlocal chosen, results
        whole = list(leaves)
        for place, value in zip(places, values, strict=True):
            whole[place] = value
        args, kwargs = rebuild(whole)
        own = {id(x) for x in of_chosen(fun, argnums, args, kwargs)[1]}
        chosen = [id(x) in own for x in values]
        out = fun(*args, **kwargs)
        out, aux = out if has_aux else (out, None)
        outputs = [_jax.canonical(x) for x in tree_leaves(out)]
        results = len(outputs)
        return [*outputs, *(x for x in tree_leaves(aux) if _jax.is_tracer(x))]

    read = [leaves[i] for i in places]
    if any(isinstance(x, jax.ShapeDtypeStruct) for x in read):
        graph = _jax.trace(flat, [_jax.type_or_struct(x) for x in read], _jax.source_of(fun))
    else:  # Python code may branch on values
        graph = _jax.trace_at(flat, [_jax.argument(x) for x in read], _jax.source_of(fun))
    graph, closed_over = _jax.open_constants(with_nothing_repeated(rules.placed(graph)))
    types = [v.aval for v in graph.jaxpr.invars]
    chosen = [False] * len(closed_over) + chosen
    active = (c and _jax.is_differentiable(t) for c, t in zip(chosen, types, strict=True))
    outputs = enumerate(graph.jaxpr.outvars)
    wanted = (i < results and _jax.is_differentiable(v.aval) for i, v in outputs)
    names = ["(closed over)"] * len(closed_over) + [names[i] for i in places]
    return Program(graph, names, tuple(active), tuple(wanted))


def _is_array(leaf: Any) -> bool:
    """Not Python's integers and booleans, and what is no number: they are part of the function."""
    return isinstance(leaf, float | complex) or (hasattr(leaf, "shape") and hasattr(leaf, "dtype"))


# --- Values -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SavedValue:
    """A value of the forward pass that the backward pass reads.

    Attributes:
        state: "kept", "repeated" or "argument".
        why: the reason.
        steps: the lengths of the loops that keep one for each step, outermost first.
        shape: at one step.
        dtype: its dtype.
        bytes: of all steps; if it is repeated, what it would take to keep it.
        operations: the primitive that makes it; if it is repeated, all that are.
        name: the argument's name, or what `fungrad.name` called it.
        node: the operation that makes it; `None` for an argument.
    """

    state: str
    why: str
    steps: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: Any
    bytes: int
    operations: tuple[str, ...] = ()
    name: str | None = None
    node: Node | None = None

    @property
    def file(self) -> str | None:
        return None if self.node is None else self.node.file

    @property
    def line(self) -> int | None:
        return None if self.node is None else self.node.line

    @property
    def text(self) -> str:
        """The source line, if the file is readable."""
        return linecache.getline(self.file or "", self.line or 0).strip()

    @property
    def type(self) -> str:
        """`12 × float32[8, 3]`: one such array for each of 12 steps."""
        each = f"{self.dtype}{list(self.shape)}"
        return " × ".join([*map(str, self.steps), each])


def _kept(cut: saving.Cut, settings: Settings) -> Iterator[SavedValue]:
    forward, backward = cut.forward.jaxpr, cut.backward.jaxpr
    top, size = Level(cut.forward), len(cut.saved)
    crossing = forward.outvars[len(forward.outvars) - size :]
    arriving = backward.invars[len(cut.free) :][:size]
    operands = operands_of(backward.eqns, Level(cut.backward).producer)
    again = read_again(Level(cut.backward))
    places = {}  # two variables may stand for one value
    for variable, arrives in zip(crossing, arriving, strict=True):
        place = made(top, variable)
        if place.equation is not None or place.level.node is not None:  # no mere argument
            places.setdefault(place.key, (place, variable, arrives))
    kept = {v for place, *_ in places.values() for v in (place.variable, *crossing)}
    for place, variable, arrives in places.values():
        why = reasons.why_kept(place, settings.save, kept, arrives in operands, arrives in again)
        yield _value("kept", why, variable.aval, place)


def _repeated(cut: saving.Cut, settings: Settings) -> Iterator[SavedValue]:
    for level, variable, chain in repeated(Level(cut.backward)):
        why = reasons.why_repeated(level, variable, chain, settings.save)
        names = tuple(dict.fromkeys(_jax.function_name(e) or e.primitive.name for e in chain))
        yield _value("repeated", why, variable.aval, made(level, variable), level.steps, names)


def _arguments(cut: saving.Cut, names: Sequence[str]) -> Iterator[SavedValue]:
    for i, variable in zip(cut.free, cut.backward.jaxpr.invars, strict=False):
        aval, why = variable.aval, "at hand"
        yield SavedValue("argument", why, (), aval.shape, aval.dtype, _size(aval), name=names[i])


def _value(
    state: str,
    why: str,
    aval: Any,
    place: Made,
    steps: tuple[int, ...] = (),
    operations: tuple[str, ...] = (),
) -> SavedValue:
    """A value of a type, of which each of so many steps has one."""
    node, stacks = place.node, place.stacks
    count = _size(aval) * int(np.prod(steps, dtype=int))
    steps, shape = (*steps, *aval.shape[:stacks]), aval.shape[stacks:]
    operations = operations or (node.callee or node.primitive,)
    return SavedValue(state, why, steps, shape, aval.dtype, count, operations, node.name, node)


def _size(aval: Any) -> int:
    return int(costs.bytes_of(aval))


# --- The table --------------------------------------------------------------------------------


class Planned(NamedTuple):
    """Bytes of temporary memory that XLA plans for a gradient, arguments and results excluded.

    Attributes:
        fungrad: for `fungrad.grad`.
        jax: for `jax.grad`; `None` if that refuses the function.
    """

    fungrad: int
    jax: int | None


@dataclass(frozen=True)
class SavedValues:
    """What the backward pass reads of the forward pass.

    Attributes:
        values: one for each value, in the order of the program.
        program: what was differentiated.
        settings: by which rules, and what might be kept.
    """

    values: tuple[SavedValue, ...]
    program: Program
    settings: Settings

    @property
    def kept(self) -> list[SavedValue]:
        """The values that the forward pass keeps."""
        return [value for value in self.values if value.state == "kept"]

    @property
    def repeated(self) -> list[SavedValue]:
        """The values that the backward pass computes again."""
        return [value for value in self.values if value.state == "repeated"]

    @property
    def arguments(self) -> list[SavedValue]:
        """The arguments that the backward pass reads, which cost nothing to keep."""
        return [value for value in self.values if value.state == "argument"]

    @property
    def bytes(self) -> int:
        """What is kept, in bytes."""
        return sum(value.bytes for value in self.kept)

    @cached_property
    def bytes_of_jax(self) -> int | None:
        """What `jax.grad` keeps, in bytes; `None` if it refuses the function."""
        return by_jax.kept_bytes(*self.program[:1], *self.program[2:])

    @cached_property
    def compiled(self) -> Planned:
        """The temporary memory that XLA plans; both gradients are compiled when this is asked."""
        parts = self.program.graph, self.program.active, self.program.wanted
        rules, save = self.settings.rules, self.settings.save

        def ours(f, *primals):
            return vjp(f, *primals, rules=rules, save=save)

        planned = by_jax.planned_bytes(*parts, ours)
        if self.bytes_of_jax is None:
            return Planned(planned, None)
        return Planned(planned, by_jax.planned_bytes(*parts, jax.vjp))

    def __iter__(self) -> Iterator[SavedValue]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __str__(self) -> str:
        return "\n".join([*in_columns(_rows(self.values)), *self._totals()])

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return "\n\n".join(["\n".join(in_markdown(_rows(self.values))), *self._totals()])

    def _totals(self) -> list[str]:
        saves = sum(value.bytes for value in self.repeated)
        theirs = self.bytes_of_jax
        line = f"kept: {readable(self.bytes)}"
        line += f"; to keep what is repeated would take {readable(saves)} more" if saves else ""
        return [line, f"jax.grad keeps {readable(theirs)}" if theirs is not None else REFUSED]


REFUSED = "jax.grad refuses this function"


def _rows(values: Sequence[SavedValue]) -> list[tuple[str, ...]]:
    """Head, and one row for each value; those that differ in nothing but their name share one."""
    groups: dict[tuple[str, ...], list[SavedValue]] = {}
    for value in values:
        place = f"{os.path.basename(value.file)}:{value.line}" if value.file else ""
        made_by = " ".join(value.operations)
        row = (value.state, value.type, made_by, place, value.text, value.why)
        groups.setdefault(row, []).append(value)
    rows: list[tuple[str, ...]] = [("bytes", "", "value", "name", "made by", "line", "", "why")]
    for (state, kind, *rest), group in groups.items():
        count = f"{len(group)} × " if len(group) > 1 else ""
        names = dict.fromkeys(value.name for value in group if value.name)
        total = readable(sum(value.bytes for value in group))
        rows.append((total, state, count + kind, ", ".join(names), *rest))
    return rows
