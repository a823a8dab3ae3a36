"""What is known of an operation at which something went wrong: its numbers, its rule, its place."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fungrad import _jax
from fungrad.graph import Node
from fungrad.inspect.diagnosis.trails import Mark
from fungrad.inspect.diagnosis.values import Entry, Operation, Value, is_numeric, with_benign
from fungrad.rulebook import AnyRule, Rulebook


def functions_of(node: Node) -> list[str]:
    """The library's functions that a node is in, innermost first, and the calls around it."""
    equation = node.equation
    file, line, _ = _jax.line_of(equation)
    traceback = equation.source_info.traceback
    frames = [] if traceback is None else traceback.frames
    below = itertools.takewhile(lambda f: (f.file_name, f.line_num) != (file, line), frames)
    names = [frame.function_name.rsplit(".", 1)[-1] for frame in below]
    calls = [call.callee or call.primitive for call in reversed(node.path)]
    return [name.strip("_") for name in (*names, *calls)]


def rule_of(node: Node, rules: Rulebook) -> AnyRule | None:
    """The rule by which a node is differentiated."""
    return rules.find(node.equation)


@dataclass(frozen=True, eq=False)
class Facts:
    """An entry of an operation's output, and what it was made from, by which rules."""

    mark: Mark
    rules: Rulebook

    @property
    def op(self) -> Operation:
        """The operation that made it."""
        assert self.mark.op is not None
        return self.mark.op

    @property
    def entry(self) -> Entry:
        return self.mark.entry

    @property
    def number(self) -> Any:
        return self.mark.number

    @property
    def node(self) -> Node:
        return self.op.place.node

    @property
    def primitive(self) -> str:
        return self.node.primitive

    @cached_property
    def functions(self) -> list[str]:
        return functions_of(self.node)

    @cached_property
    def rule(self) -> AnyRule | None:
        return rule_of(self.node, self.rules)

    @property
    def is_elementwise(self) -> bool:
        """Whether an entry of the output depends on the same entry of the inputs alone."""
        return self.is_sum or getattr(self.rule, "broadcasts", False)

    @property
    def is_pull(self) -> bool:
        """Whether it is the application of the node's rule."""
        return bool(self.op.targets)

    @property
    def is_sum(self) -> bool:
        """Whether it adds up gradients."""
        return not self.is_pull and self.op.place.is_backward and self.op.roles[:1] == ["g"]

    @cached_property
    def names(self) -> list[str]:
        """What the rule calls the inputs of the operation."""
        node_inputs = [v for v in self.node.equation.invars if not isinstance(v, _jax.Literal)]
        count, given = len(self.op.inputs), tuple[str, ...](getattr(self.rule, "positional", ()))
        if self.is_sum:
            return [f"g{i + 1}" for i in range(count)]
        named = list(given[2:]) if len(given) >= 2 + len(node_inputs) else []
        positions = [self.node.equation.invars.index(v) for v in dict.fromkeys(node_inputs)]
        inputs = [named[p] if p < len(named) else f"x{p}" for p in positions]
        if not self.is_pull:
            return [*named, *(f"x{i}" for i in range(len(named), count))][:count]
        arriving = self.op.roles.count("g")
        outs = [given[1]] if len(given) > 1 and self.op.roles.count("out") == 1 else []
        outs = outs or [f"out{i}" for i in range(self.op.roles.count("out"))]
        return [*["g"] * arriving, *outs, *inputs]

    def number_of(self, value: Value) -> Any:
        """A value's number that goes into the entry, or all of them, if that is not so simple."""
        array = value.array
        if not is_numeric(array):
            return np.zeros(0)
        array = np.asarray(array)
        if array.ndim == 0:
            return array[()]
        same = array.shape == np.shape(self.mark.value.array)
        return array[self.entry] if same and self.is_elementwise else array

    def of_role(self, role: str) -> list[Any]:
        """The numbers of the inputs of one role: "g", "out" or "in"."""
        pairs = zip(self.op.inputs, self.op.roles, strict=True)
        return [self.number_of(value) for value, own in pairs if own == role]

    @cached_property
    def ins(self) -> list[Any]:
        """The numbers of the node's inputs, literals included."""
        if not self.is_pull:
            return self.of_role("in")
        variables = dict.fromkeys(
            v for v in self.node.equation.invars if not isinstance(v, _jax.Literal)
        )
        known = dict(zip(variables, self.of_role("in"), strict=True))
        return [
            np.asarray(v.val)[()] if isinstance(v, _jax.Literal) else known[v]
            for v in self.node.equation.invars
        ]

    @cached_property
    def is_pole(self) -> bool:
        """In the backward pass: whether the slope itself is infinite or undefined."""
        arrays = [value.array for value in self.op.inputs]
        changed = [
            with_benign(x, np.ones(np.shape(x), bool)) if role == "g" else x
            for x, role in zip(arrays, self.op.roles, strict=True)
        ]
        return not np.isfinite(np.asarray(self.op.run(*changed)[self.mark.value.index])[self.entry])

    @property
    def g_is_zero(self) -> bool:
        """Whether the gradient that arrives is zero where it counts."""
        return all(np.all(np.asarray(g) == 0) for g in self.of_role("g"))

    @property
    def numbers(self) -> dict[str, str]:
        """The numbers that made the entry, by the names that the rule gives them."""
        pairs = zip(self.names, self.op.inputs, strict=True)
        return {name: shown(self.number_of(value)) for name, value in pairs}


def shown(x: Any) -> str:
    """A number to four digits, or what an array holds, in one line."""
    x = np.asarray(x)
    if x.ndim == 0:
        return figure(x[()])
    kind = f"{x.dtype}{list(x.shape)}"
    if not (x.dtype.kind in "fc" or x.dtype.name.startswith(("bfloat", "float"))) or not x.size:
        return kind
    if x.size <= 4:
        return "[" + ", ".join(figure(e) for e in x.ravel()) + "]"
    finite = x[np.isfinite(x)]
    parts = []
    if finite.size and x.dtype.kind != "c":
        parts.append(f"between {figure(finite.min())} and {figure(finite.max())}")
    for what, count in (("zero", np.sum(x == 0)), ("not finite", np.sum(~np.isfinite(x)))):
        if count:
            parts.append(f"{count} {what}")
    return f"{kind}, {', '.join(parts)}"


def figure(x: Any) -> str:
    """One number, to four digits."""
    if isinstance(x, bool | np.bool_ | int | np.integer):
        return str(x)
    if isinstance(x, complex | np.complexfloating):
        return f"{complex(x):.4g}"
    return f"{float(x):.4g}".replace("inf", "∞").replace("-", "−").replace("nan", "NaN")
