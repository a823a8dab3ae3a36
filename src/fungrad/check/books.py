"""Checks of a rulebook: each rule, at its examples, by all witnesses."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import Any

import jax
from jax import numpy as jnp

from fungrad.check.arrays import FORMATS, checked_formats, in_format, is_complex, is_float
from fungrad.check.cases import Case, pull_by
from fungrad.check.examples import Example, examples
from fungrad.check.functions import case_of
from fungrad.check.judging import verdict_on
from fungrad.check.nodes import SILENT, Node, node_of
from fungrad.check.verdict import NO_EXAMPLE, BookVerdict, Verdict
from fungrad.graph import trace
from fungrad.rulebook import AnyRule, CallRule, Gap, Rule, Rulebook
from fungrad.rules import default
from fungrad.selector import Selector, at
from fungrad.transforms import vjp

Key = str | Selector


def rule(
    name: Key,
    *,
    example: tuple[Any, ...] | None = None,
    rules: Rulebook | None = None,
    dtypes: Sequence[str] = FORMATS,
    witnesses: Sequence[str] | None = None,
) -> Verdict:
    """Prove a rule of a rulebook, at all of its examples.

    A rule that replaces another one is proven at the examples of that. A rule that `replace` put at
    a selector, or at the name of a function, has none: it is proven, alone, by the gradients of a
    function that meets it.

    Args:
        name: the rule's primitive; or what `replace` was given, a function's name or a selector.
        example: such a function and arguments of it, `(function, *arguments)`.
        rules: the book that it is in; `None` is `fungrad.rules`.
        dtypes: the formats in which its examples are taken.
        witnesses: the names of those to hear; `None`: all.

    Raises:
        KeyError: the book has no such rule.
        LookupError: the example does not meet it.
        TypeError: the example is no such tuple.
        ValueError: the rule has no example, or none that runs, or there is no such witness or
            format.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> fg.check.rule("tanh", dtypes=["float32"], witnesses=["rounding"]).passed
    True
    >>> outer = fg.at(primitive="tanh", index=1)
    >>> book = fg.rules.replace({outer: lambda g, z, x: g * (1 - z)})
    >>> twice = (lambda x: jnp.tanh(jnp.tanh(x)), 0.5)
    >>> fg.check.rule(outer, rules=book, example=twice, witnesses=["reference"]).faults[0].argument
    'x'
    """
    book = default if rules is None else _checked_book("rules", rules)
    dtypes = checked_formats(dtypes)
    _check_has("name", book, name)
    if example is not None:
        _check_meets(name, example)
    elif not isinstance(book[name], Gap) and _example_of(book[name]) is None:
        raise ValueError(
            f"the rule of {name!r} has no example; give it one, example=(function, *arguments), "
            "of a function that meets it"
        )
    try:
        cases, absent = cases_of(name, book, dtypes, example)
    except Exception as error:  # of any type
        if name not in default or _example_of(book[name]) is not default[name].example or example:
            raise
        # Another version of JAX has the primitive, or a machine with more devices runs it.
        absent = {"example": (f"they do not run here ({_first_line(error)})",)}
        return Verdict(repr(name), silent=absent)
    if example is not None and not cases:
        raise ValueError(f"example: the function runs in none of the formats: {absent}")
    verdict = verdict_on(repr(name), cases, witnesses)
    return replace(verdict, silent={**verdict.silent, **absent})


def rulebook(
    book: Rulebook | None = None,
    *,
    examples: Mapping[Key, tuple[Any, ...]] | None = None,
    dtypes: Sequence[str] = FORMATS,
    witnesses: Sequence[str] | None = None,
    progress: bool = False,
) -> BookVerdict:
    """Prove every rule of a rulebook that has an example; of a whole one this takes some minutes.

    Replacements at a selector, or at the name of a function, have none but what `examples` gives
    them; without, the verdict says that they are not proven.

    Args:
        book: the book; `None` is `fungrad.rules`.
        examples: for replacements, by their keys, `(function, *arguments)` that meets it.
        dtypes: the formats in which the examples are taken.
        witnesses: the names of those to hear; `None`: all.
        progress: whether to say each rule's verdict, in a line on standard error, as it falls.

    Returns:
        The verdict, with that on each rule in `.rules`; as text it is a table, then the faults.

    Raises:
        KeyError, LookupError, TypeError, ValueError: an argument is not what is described above.

    >>> import fungrad as fg
    >>> from fungrad.rules import elementwise
    >>> verdict = fg.check.rulebook(fg.Rulebook({"neg": elementwise.neg}), witnesses=["reference"])
    >>> verdict.passed, list(verdict.rules)
    (True, ['neg'])
    """
    book = default if book is None else _checked_book("book", book)
    given = _checked_examples(book, examples)
    formats, start = checked_formats(dtypes), time.monotonic()
    named = [entry.primitive for entry in book if not isinstance(entry, Gap)]
    keys = [*named, *(key for key in book.replaced if isinstance(key, Selector))]
    each: dict[Key, Verdict] = {}
    for key in keys:
        if key in given or _example_of(book[key]) is not None:
            options: Any = {"rules": book, "dtypes": formats, "witnesses": witnesses}
            each[key] = rule(key, example=given.get(key), **options)
            if progress:
                print(each[key].row, file=sys.stderr, flush=True)
    verdicts = list(each.values())
    names = dict.fromkeys(name for verdict in verdicts for name in verdict.compared)
    silent: dict[str, tuple[str, ...]] = {}
    for verdict in verdicts:
        for name, why in verdict.silent.items():
            silent[name] = (*silent.get(name, ()), *(f"{verdict.subject}: {one}" for one in why))
    unproven = [repr(key) for key in keys if key not in each]
    unproven += [f"what {book.placement!r} places"] if book.placement else []
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


def _check_has(argument: str, book: Rulebook, key: Any) -> None:
    if not isinstance(key, Key) or key not in book:
        near = get_close_matches(str(key), [entry.primitive for entry in book])
        hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
        raise KeyError(f"{argument}: {book} has no rule of {key!r}{hint}")


def _checked_examples(book: Rulebook, examples: Any) -> dict[Key, tuple[Any, ...]]:
    if not isinstance(examples, Mapping | None):
        raise TypeError(
            f"examples must be a dictionary {{key: (function, *arguments)}}, got {examples!r}"
        )
    given = dict(examples or {})
    for key, example in given.items():
        _check_has("examples", book, key)
        _check_meets(key, example)
    return given


def _check_meets(key: Key, example: Any) -> None:
    if not isinstance(example, tuple) or not example or not callable(example[0]):
        raise TypeError(
            f"the example of {key!r} must be a tuple (function, *arguments), got {example!r}"
        )
    function, *arguments = example
    where = key if isinstance(key, Selector) else at(primitive=key)
    trace(function)(*arguments).find(where)  # raises a LookupError that says what is there


def cases_of(
    name: Key, book: Rulebook, dtypes: Sequence[str], example: tuple[Any, ...] | None = None
) -> tuple[list[Case], dict[str, tuple[str, ...]]]:
    """The cases of a rule: its examples, in each of the formats that they exist in.

    And for each format that some do not exist in, the reasons.
    """
    entry = book[name]
    if isinstance(entry, Gap):
        return [], {}
    if example is None:
        entry = replace(entry, example=_example_of(entry))
        named = [key for key in book.replaced if isinstance(key, str)]
        one = partial(_case, entry, book=book.only(*named))
    else:
        entry = replace(entry, primitive=name, example=lambda _: example)
        one = partial(_of_program, entry, book=book.only(*{name} & book.replaced.keys()))
    found, absent = [], {}
    with jax.enable_x64(True):
        for i, drawn in enumerate(examples(entry)):
            for dtype in _formats_of(drawn, dtypes):
                try:
                    case = one(_moved(drawn, dtype, example is not None), dtype=dtype)
                except _Absent as why:
                    absent.setdefault(dtype, {})[str(why)] = None
                    continue
                if case is not None:
                    found.append(replace(case, where=f"example {i}, {case.where}"))
    return found, {dtype: tuple(why) for dtype, why in absent.items()}


def _formats_of(example: Example, dtypes: Sequence[str]) -> Sequence[str]:
    """The formats in which an example is taken; no complex numbers have parts of 16 bits."""
    if example.kink:
        return ("float64",)
    floats = [x for x in map(jnp.asarray, jax.tree.leaves(example.arguments)) if is_float(x)]
    if not any(map(is_complex, floats)):
        return dtypes
    return [dtype for dtype in dtypes if dtype in ("float64", "float32")]


class _Absent(Exception):
    """An example does not exist in a format."""


def _example_of(entry: AnyRule) -> Any:
    """A rule that replaces another one is proven at the examples of that."""
    replaces = isinstance(entry, Rule) and entry.example is None and entry.primitive in default
    return default[entry.primitive].example if replaces else entry.example


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _case(entry: AnyRule, example: Example, dtype: str, book: Rulebook) -> Case | None:
    """The case of an example in a format; `None` if there is nothing in it that has a gradient.

    Raises:
        _Absent: JAX runs the example in that format in other ways.
    """
    if isinstance(entry, CallRule):
        return _of_program(entry, example, dtype, book)
    assert isinstance(entry, Rule)
    try:
        node = node_of(example, entry.primitive)
    except LookupError:  # it stands inside of a call only, such as across a mesh
        if dtype != "float64":
            raise _Absent("another program, without the primitive") from None
        return _of_program(entry, example, dtype, book)
    low = _of_node(entry, node, example.kink, book)
    if dtype == "float64" or low is None:
        return low
    wide = replace(example, arguments=in_format(example.arguments, "float64"))
    exact = _of_node(entry, node_of(wide, entry.primitive), example.kink, book)
    return replace(low, exact=exact, narrow=True)


def _moved(example: Example, dtype: str, is_given: bool) -> Example:
    """The example in a format.

    Raises:
        _Absent: JAX cannot run it there, nor need it.
    """
    moved = replace(example, arguments=in_format(example.arguments, dtype))
    if dtype != "float64" or is_given:
        try:
            jax.jit(moved.function).lower(*moved.arguments)
        except Exception as error:  # of any type: it is JAX's
            raise _Absent(_first_line(error)) from None
    return moved


def _of_program(entry: AnyRule, example: Example, dtype: str, book: Rulebook) -> Case:
    """The case of a whole example."""
    case = case_of(example.function, example.arguments, partial(vjp, rules=book))
    narrow = dtype != "float64" and case.exact is not None
    return replace(case, name=repr(entry.primitive), kink=example.kink, narrow=narrow)


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
