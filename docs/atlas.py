"""The atlas: what docs/atlas.md shows of every rule, read from the rulebook and from its source."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import fungrad as fg
from fungrad.rulebook import Gap

ROOT = Path(__file__).parents[1]
Table = Callable[[list[str], Iterable[list[str]]], str]


class Entry(NamedTuple):
    """A rule, and where it is written: its statement in its module's source."""

    rule: Any
    module: ModuleType
    statement: ast.stmt


@cache
def entries() -> list[Entry]:
    """Every rule of the default book, in its order."""
    found: dict[int, tuple[ModuleType, str]] = {}
    for module in vars(importlib.import_module("fungrad.rules")).values():
        if inspect.ismodule(module):
            for name, value in vars(module).items():
                for rule in value if isinstance(value, tuple) else (value,):
                    found.setdefault(id(rule), (module, name))
    places = [(rule, *found[id(rule)]) for rule in fg.rules]
    return [Entry(rule, module, statements(module)[name]) for rule, module, name in places]


@cache
def statements(module: ModuleType) -> dict[str, ast.stmt]:
    """The top-level statement that defines each name."""
    defined: dict[str, ast.stmt] = {}
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            defined[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            names = (target.id for target in statement.targets if isinstance(target, ast.Name))
            defined.update((name, statement) for name in names)
    return defined


def atlas(table: Table) -> str:
    """The sections of the page."""
    given = entries()
    written = [e for e in given if not isinstance(e.rule, Gap) and e.rule.reason is None]
    without = [e for e in given if not isinstance(e.rule, Gap) and e.rule.reason is not None]
    gaps = [e for e in given if isinstance(e.rule, Gap)]
    counts = f"{len(written)} primitives have a rule, {len(without)} have no gradient for the "
    counts += f"reasons below, and {len(gaps)} keep JAX's own rule."
    parts = [counts, *_sections(written, table), *_without(without, gaps, table)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _sections(written: list[Entry], table: Table) -> Iterator[str]:
    for module in dict.fromkeys(entry.module for entry in written):
        yield f"## {module.__name__.rsplit('.', 1)[-1]}"
        yield inspect.cleandoc(module.__doc__ or "")
        rows = [_row(entry) for entry in written if entry.module is module]
        yield table(["primitive", "function", "Jacobian", "example"], rows)


def _without(without: list[Entry], gaps: list[Entry], table: Table) -> Iterator[str]:
    yield "## No gradient"
    yield "Primitives through which no gradient flows, and why."
    yield table(["primitive", "reason"], ([_link(e), e.rule.reason] for e in without))
    yield "## Gaps"
    yield inspect.cleandoc(gaps[0].module.__doc__ or "")
    yield table(["primitive", "reason"], ([_link(e), e.rule.reason] for e in gaps))


def _row(entry: Entry) -> list[str]:
    function, *jacobian = re.split(r" {2,}", entry.rule.jacobian)
    steps = "<br>".join([*(f"`{step}`" for step in jacobian), *filter(None, [entry.rule.kink])])
    return [_link(entry), f"`{function}`", steps, _example(entry)]


def _link(entry: Entry) -> str:
    """The primitive's name, with a link to its rule."""
    return f"[{entry.rule.primitive}]({place(entry)})"


def place(entry: Entry) -> str:
    """File and line of the rule, as seen from the page."""
    decorators = getattr(entry.statement, "decorator_list", [])
    return f"{_file(entry)}#L{min(part.lineno for part in (entry.statement, *decorators))}"


def _file(entry: Entry) -> str:
    return f"../{Path(inspect.getfile(entry.module)).relative_to(ROOT)}"


def _example(entry: Entry) -> str:
    """The source of the rule's example; if that is a long function, a link to it."""
    source = inspect.getsource(entry.module)
    calls = (node for node in ast.walk(entry.statement) if isinstance(node, ast.Call))
    given = [word.value for call in calls for word in call.keywords if word.arg == "example"]
    if not given:
        return ""
    shown: ast.AST = given[0]
    if isinstance(shown, ast.Name):
        shown = statements(entry.module)[shown.id]
    if isinstance(shown, ast.FunctionDef):
        body = shown.body[1:] if ast.get_docstring(shown) else shown.body
        if len(body) > 1:
            return f"[`{shown.name}`]({_file(entry)}#L{shown.lineno})"
        shown = body[0]
    while isinstance(shown, ast.Assign | ast.Return):
        shown = shown.value or ast.Constant(None)
    if isinstance(shown, ast.Lambda):
        shown = shown.body
    return f"`{_on_one_line(ast.get_source_segment(source, shown) or '')}`"


def _on_one_line(code: str) -> str:
    code = re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*", "", code))
    return re.sub(r",? ([)\]}])", r"\1", re.sub(r"([(\[{]) ", r"\1", code)).strip()
