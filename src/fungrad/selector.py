"""Selectors: which nodes of a graph are meant."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any, ClassVar


@dataclass(frozen=True, repr=False)
class Selector:
    """Selects nodes; made by `at`, combined by `&` and `|`."""

    name: str | None = None
    primitive: str | None = None
    function: str | None = None
    scope: str | None = None
    line: int | str | None = None
    index: int | None = None

    def matches(self, node: Any) -> bool:
        """Whether all fields but `index` fit the node."""
        return (
            (self.name is None or node.name == self.name)
            and (self.primitive is None or self.primitive in (node.primitive, node.callee))
            and (self.function is None or self.function in _functions(node))
            and (self.scope is None or _in_scope(self.scope, node.scope))
            and (self.line is None or _on_line(self.line, node))
        )

    def select(self, nodes: list[Any]) -> list[Any]:
        """The nodes among `nodes` that it selects, in their order."""
        found = [node for node in nodes if self.matches(node)]
        if self.index is None:
            return found
        return [found[self.index]] if -len(found) <= self.index < len(found) else []

    @property
    def sought(self) -> str:
        given = (self.name, self.primitive, self.function, self.scope, self.line)
        return str(next((field for field in given if field is not None), ""))

    def __repr__(self) -> str:
        given = [(entry.name, getattr(self, entry.name)) for entry in fields(self)]
        return f"at({', '.join(f'{name}={x!r}' for name, x in given if x is not None)})"

    def __and__(self, other: Selector | str) -> Selector:
        return _Both(first=self, second=as_selector(other))

    def __or__(self, other: Selector | str) -> Selector:
        return _Either(first=self, second=as_selector(other))

    __rand__, __ror__ = __and__, __or__


@dataclass(frozen=True, repr=False)
class _Pair(Selector):
    first: Selector = Selector()
    second: Selector = Selector()

    sign: ClassVar[str]

    @property
    def sought(self) -> str:
        return self.first.sought

    def __repr__(self) -> str:
        return f"({self.first!r} {self.sign} {self.second!r})"


@dataclass(frozen=True, repr=False)
class _Both(_Pair):
    sign = "&"

    def select(self, nodes: list[Any]) -> list[Any]:
        kept = set(map(id, self.second.select(nodes)))
        return [node for node in self.first.select(nodes) if id(node) in kept]


@dataclass(frozen=True, repr=False)
class _Either(_Pair):
    sign = "|"

    def select(self, nodes: list[Any]) -> list[Any]:
        kept = set(map(id, [*self.first.select(nodes), *self.second.select(nodes)]))
        return [node for node in nodes if id(node) in kept]


def at(
    name: str | None = None,
    primitive: str | None = None,
    function: str | None = None,
    scope: str | None = None,
    line: int | str | None = None,
    index: int | None = None,
) -> Selector:
    """A selector of nodes; its fields combine with AND.

    Args:
        name: the name that `fungrad.name` or `checkpoint_name` gave.
        primitive: a primitive's name, or that of the jitted or custom function that is called.
        function: the innermost function of the user's that holds the node, or that it calls; or
            the library's function that holds it, such as `jax.nn.softmax`, whose result is the
            last of its nodes.
        scope: a contiguous part of the `jax.named_scope` path; globs are allowed.
        line: a line number, or `"file.py:41"`.
        index: which of the matches, from 0 in program order; negative from the end.

    Raises:
        TypeError: an argument is of another type.
        ValueError: `line` is a string without a number behind a colon.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> graph = fg.trace(lambda x: jnp.tanh(jnp.tanh(x)))(1.0)
    >>> graph.find(fg.at(primitive="tanh", index=1))[0].label
    'tanh:1'
    """
    texts = {"name": name, "primitive": primitive, "function": function, "scope": scope}
    for argument, given in texts.items():
        _check(argument, given, str, "a string")
    _check("line", line, Integral | str, 'a number, or a string "file.py:41"')
    _check("index", index, Integral, "an integer")
    if isinstance(line, str) and not line.rpartition(":")[2].isdecimal():
        raise ValueError(f'line must be a number, or a string "file.py:41", got {line!r}')
    return Selector(name, primitive, function, scope, line, index)


def _check(argument: str, given: Any, kind: Any, expected: str) -> None:
    if given is not None and (not isinstance(given, kind) or isinstance(given, bool)):
        raise TypeError(f"{argument} must be {expected}, or None, got {given!r}")


def as_selector(where: Selector | str | None) -> Selector:
    """The selector that stands for a name, or for every node where there is none.

    Raises:
        TypeError: `where` is none of these.
    """
    if where is None or isinstance(where, str):
        return Selector(name=where)
    if not isinstance(where, Selector):
        raise TypeError(f"where must be a selector, made by at(...), or a name, got {where!r}")
    return where


def _functions(node: Any) -> tuple[str | None, ...]:
    return node.function, node.callee, node.library_function


def _in_scope(pattern: str, scope: str) -> bool:
    wanted, parts = pattern.split("/"), scope.split("/")
    starts = range(len(parts) - len(wanted) + 1)
    return any(
        all(fnmatch.fnmatchcase(part, want) for part, want in zip(parts[i:], wanted, strict=False))
        for i in starts
    )


def _on_line(line: int | str, node: Any) -> bool:
    if isinstance(line, int):
        return node.line == line
    file, _, number = line.rpartition(":")
    same = node.file == file or node.file.endswith("/" + file)
    return same and str(node.line) == number
