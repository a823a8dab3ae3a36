"""Checks of a rulebook: each rule, at its examples, by all witnesses."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import Any

import jax

from fungrad.check.arrays import FORMATS, checked_formats, in_format, is_complex, is_float
from fungrad.check.cases import Case, pull_by
from fungrad.check.examples import Example, examples
from fungrad.check.functions import case_of
from fungrad.check.judging import verdict_on
from fungrad.check.nodes import SILENT, Node, node_of
from fungrad.check.verdict import NO_EXAMPLE, BookVerdict, Verdict
from fungrad.rulebook import AnyRule, CallRule, Gap, Rule, Rulebook
from fungrad.rules import default
from fungrad.transforms import vjp


def rule(
    name: str,
    *,
    rules: Rulebook | None = None,
    dtypes: Sequence[str] = FORMATS,
    witnesses: Sequence[str] | None = None,
) -> Verdict:
    """Prove a rule of a rulebook, at all of its examples.

    A rule that replaces another one is proven at the examples of that.

    Args:
        name: the rule's primitive.
        rules: the book that it is in; `None` is `fungrad.rules`.
        dtypes: the formats in which its examples are taken.
        witnesses: the names of those to hear; `None`: all.

    Raises:
        KeyError: the book has no such rule.
        ValueError: the rule has no example, or there is no such witness or format.

    >>> import fungrad as fg
    >>> fg.check.rule("tanh", dtypes=["float32"], witnesses=["rounding"]).passed
    True
    >>> wrong = fg.rules.replace({"tanh": lambda g, z, x: g * (1 - z)})
    >>> fg.check.rule("tanh", rules=wrong, witnesses=["reference"]).faults[0].argument
    'input 0'
    """
    book = default if rules is None else _checked_book("rules", rules)
    dtypes = checked_formats(dtypes)
    if name not in book:
        near = get_close_matches(name, [entry.primitive for entry in book])
        hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
        raise KeyError(f"name: {book} has no rule of {name!r}{hint}")
    if not isinstance(book[name], Gap) and _example_of(book[name]) is None:
        raise ValueError(
            f"the rule of {name!r} has no example; give it one, with example=, or prove a function "
            "that meets it, with fungrad.check.function(fun, rules=book)"
        )
    try:
        cases, absent = cases_of(name, book, dtypes)
    except Exception as error:  # of any type
        if name not in default or _example_of(book[name]) is not default[name].example:
            raise
        # Another version of JAX has the primitive, or a machine with more devices runs it.
        absent = {"example": (f"they do not run here ({_first_line(error)})",)}
        return Verdict(repr(name), silent=absent)
    verdict = verdict_on(repr(name), cases, witnesses)
    return replace(verdict, silent={**verdict.silent, **absent})


def rulebook(
    book: Rulebook | None = None,
    *,
    dtypes: Sequence[str] = FORMATS,
    witnesses: Sequence[str] | None = None,
    progress: bool = False,
) -> BookVerdict:
    """Prove every rule of a rulebook that has an example; of a whole one this takes some minutes.

    Replacements that a selector places have no example: prove a function that has such nodes, with
    `fungrad.check.function(fun, rules=book)`.

    Args:
        book: the book; `None` is `fungrad.rules`.
        dtypes: the formats in which the examples are taken.
        witnesses: the names of those to hear; `None`: all.
        progress: whether to say each rule's verdict, in a line on standard error, as it falls.

    Returns:
        The verdict, with that on each rule in `.rules`; as text it is a table, then the faults.

    Raises:
        TypeError, ValueError: an argument is not what is described above.

    >>> import fungrad as fg
    >>> from fungrad.rules import elementwise
    >>> verdict = fg.check.rulebook(fg.Rulebook({"neg": elementwise.neg}), witnesses=["reference"])
    >>> verdict.passed, list(verdict.rules)
    (True, ['neg'])
    """
    book = default if book is None else _checked_book("book", book)
    formats, start = checked_formats(dtypes), time.monotonic()
    rules = [entry for entry in book if not isinstance(entry, Gap)]
    proven = [entry.primitive for entry in rules if _example_of(entry) is not None]
    each = {}
    for name in proven:
        each[name] = rule(name, rules=book, dtypes=formats, witnesses=witnesses)
        if progress:
            print(each[name].row, file=sys.stderr, flush=True)
    verdicts = list(each.values())
    names = dict.fromkeys(name for verdict in verdicts for name in verdict.compared)
    silent: dict[str, tuple[str, ...]] = {}
    for verdict in verdicts:
        for name, why in verdict.silent.items():
            silent[name] = (*silent.get(name, ()), *(f"{verdict.subject}: {one}" for one in why))
    unproven = [repr(entry.primitive) for entry in rules if entry.primitive not in proven]
    return BookVerdict(
        repr(book),
        tuple(finding for verdict in verdicts for finding in verdict.findings),
        {name: sum(verdict.compared.get(name, 0) for verdict in verdicts) for name in names},
        silent | ({NO_EXAMPLE: tuple(unproven)} if unproven else {}),
        each,
        formats,
        time.monotonic() - start,
    )


def _checked_book(name: str, book: Any) -> Rulebook:
    if not isinstance(book, Rulebook):
        raise TypeError(f"{name} must be a fungrad.Rulebook, such as fungrad.rules, got {book!r}")
    return book


def cases_of(
    name: str, book: Rulebook, dtypes: Sequence[str]
) -> tuple[list[Case], dict[str, tuple[str, ...]]]:
    """The cases of a rule: its examples, in each of the formats that they exist in.

    And for each format that some do not exist in, the reasons.
    """
    entry = book[name]
    if isinstance(entry, Gap):
        return [], {}
    entry = replace(entry, example=_example_of(entry))
    found, absent = [], {}
    with jax.enable_x64(True):
        for i, example in enumerate(examples(entry)):
            for dtype in ("float64",) if example.kink else dtypes:
                try:
                    case = _case(entry, example, dtype, book)
                except _Absent as why:
                    absent.setdefault(dtype, {})[str(why)] = None
                    continue
                if case is not None:
                    found.append(replace(case, where=f"example {i}, {case.where}"))
    return found, {dtype: tuple(why) for dtype, why in absent.items()}


class _Absent(Exception):
    """An example does not exist in a format."""


def _example_of(entry: AnyRule) -> Any:
    """A rule that replaces another one is proven at the examples of that."""
    replaces = isinstance(entry, Rule) and entry.example is None and entry.primitive in default
    return default[entry.primitive].example if replaces else entry.example


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _case(entry: AnyRule, example: Example, dtype: str, book: Rulebook) -> Case | None:
    """The example's case in a format, `None` if there is nothing in it that has a gradient.

    Raises:
        _Absent: JAX cannot run the example in that format, or does so in other ways.
    """
    floats = [x for x in jax.tree.leaves(example.arguments) if is_float(x)]
    if any(map(is_complex, floats)) and dtype not in ("float64", "float32"):
        return None  # no complex numbers have such parts
    moved = replace(example, arguments=in_format(example.arguments, dtype))
    if dtype != "float64":
        try:
            jax.jit(moved.function).lower(*moved.arguments)
        except Exception as error:  # of any type: it is JAX's
            raise _Absent(_first_line(error)) from None
    if isinstance(entry, CallRule):
        case = _of_program(entry, moved, book)
        return replace(case, narrow=dtype != "float64" and case.exact is not None)
    assert isinstance(entry, Rule)
    try:
        node = node_of(moved, entry.primitive)
    except LookupError:  # it stands inside of a call only, such as across a mesh
        if dtype != "float64":
            raise _Absent("another program, without the primitive") from None
        return _of_program(entry, moved, book)
    low = _of_node(entry, node, example.kink, book)
    if dtype == "float64" or low is None:
        return low
    wide = replace(example, arguments=in_format(moved.arguments, "float64"))
    exact = _of_node(entry, node_of(wide, entry.primitive), example.kink, book)
    return replace(low, exact=exact, narrow=True)


def _of_program(entry: AnyRule, example: Example, book: Rulebook) -> Case:
    """The case of a whole example."""
    case = case_of(example.function, example.arguments, partial(vjp, rules=book))
    return replace(case, name=repr(entry.primitive), kink=example.kink)


def _of_node(entry: Rule, node: Node, kink: bool, book: Rulebook) -> Case | None:
    """The case of a rule at a node; `None` where nothing there has a gradient."""
    if not node.points or not node.g:
        return None

    def pull(g, points, of=None):
        return node.gradients(entry, g, points, of=of)

    def through(g, points):
        return pull_by(partial(vjp, rules=strict), node.own_floats)(g, points)

    strict = book.replace({}, strict=True)
    case = Case(
        name=repr(entry.primitive),
        where=f"{node} with {node.params}",
        paths=tuple(f"input {i}" for i in node.active),
        points=node.points,
        g=node.g,
        function=node.function,
        pull=pull,
        reference=node.function,
        kink=kink or entry.reason is not None,
        engine=through,
        blind=None if entry.reason else partial(node.blind, entry),
        silent=SILENT.get(entry.primitive, {}),
    )
    try:
        jax.eval_shape(case.by_reference, list(case.g), list(case.points))
    except Exception:  # of any type: JAX has no rule for it, or not for these parameters
        return replace(case, reference=None)
    return case
