"""Checks of a rulebook: each rule, at its examples, by all witnesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax

from fungrad.check.arrays import in_format, is_complex, is_float
from fungrad.check.cases import Case, pull_by
from fungrad.check.examples import Example, examples
from fungrad.check.functions import case_of
from fungrad.check.judging import verdict_on
from fungrad.check.nodes import Node, node_of
from fungrad.check.verdict import Finding, Verdict
from fungrad.rulebook import AnyRule, CallRule, Gap, Rule, Rulebook
from fungrad.rules import default
from fungrad.transforms import vjp

FORMATS = ("float64", "float32", "bfloat16", "float16")


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
        ValueError: the rule has no example, or there is no such witness.

    >>> import fungrad as fg
    >>> fg.check.rule("tanh", dtypes=["float32"], witnesses=["rounding"]).passed
    True
    >>> wrong = fg.rules.replace({"tanh": lambda g, z, x: g * (1 - z)})
    >>> fg.check.rule("tanh", rules=wrong, witnesses=["reference"]).faults[0].argument
    'input 0'
    """
    book = default if rules is None else rules
    if not isinstance(book[name], Gap) and _with_example(book[name]).example is None:
        raise ValueError(f"the rule of {name!r} has no example; give it one, with example=")
    try:
        cases = cases_of(name, book, dtypes)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        # Another version of JAX has the primitive, or a mesh of many devices.
        text = f"none of its examples runs here: {error}"
        absent = Finding("note", repr(name), "examples", text=text)
        return Verdict(repr(name), (absent,))
    return verdict_on(repr(name), cases, witnesses)


def rulebook(
    book: Rulebook | None = None,
    *,
    dtypes: Sequence[str] = FORMATS,
    witnesses: Sequence[str] | None = None,
) -> Verdict:
    """Prove every rule of a rulebook that has an example; this takes some minutes.

    Args:
        book: the book; `None` is `fungrad.rules`.
        dtypes: the formats in which the examples are taken.
        witnesses: the names of those to hear; `None`: all.

    >>> import fungrad as fg
    >>> from fungrad.rules import elementwise
    >>> fg.check.rulebook(fg.Rulebook({"neg": elementwise.neg}), witnesses=["reference"]).passed
    True
    """
    book = default if book is None else book
    each = [
        rule(entry.primitive, rules=book, dtypes=dtypes, witnesses=witnesses)
        for entry in book
        if not isinstance(entry, Gap) and _with_example(entry).example is not None
    ]
    counts = [verdict.compared for verdict in each]
    names = dict.fromkeys(name for some in counts for name in some)
    return Verdict(
        repr(book),
        tuple(finding for verdict in each for finding in verdict.findings),
        {name: sum(some.get(name, 0) for some in counts) for name in names},
    )


def cases_of(name: str, book: Rulebook, dtypes: Sequence[str]) -> list[Case]:
    """The cases of a rule: its examples, in each of the formats that they exist in."""
    entry = book[name]
    if isinstance(entry, Gap):
        return []
    found = []
    with jax.enable_x64(True):
        for i, example in enumerate(examples(_with_example(entry))):
            for dtype in ("float64",) if example.kink else dtypes:
                case = _case(entry, example, dtype, book)
                if case is not None:
                    found.append(replace(case, where=f"example {i}, {case.where}"))
    return found


def _with_example(entry: AnyRule) -> AnyRule:
    """A rule that replaces another one is proven at the examples of that."""
    replaces = isinstance(entry, Rule) and entry.example is None and entry.primitive in default
    return replace(entry, example=default[entry.primitive].example) if replaces else entry


def _case(entry: AnyRule, example: Example, dtype: str, book: Rulebook) -> Case | None:
    """The example's case in a format, `None` if it does not exist in that format."""
    floats = [x for x in jax.tree.leaves(example.arguments) if is_float(x)]
    if any(map(is_complex, floats)) and dtype not in ("float64", "float32"):
        return None
    moved = replace(example, arguments=in_format(example.arguments, dtype))
    if isinstance(entry, CallRule):
        try:
            case = _of_program(entry, moved, book)
            jax.jit(case.function).lower(*case.points).compile()
        except (NotImplementedError, TypeError):
            if dtype == "float64":
                raise
            return None  # JAX has it, or the example is, in wider formats only
        return replace(case, narrow=dtype != "float64" and case.exact is not None)
    assert isinstance(entry, Rule)
    if dtype == "float64":
        try:
            node = node_of(moved, entry.primitive)
        except LookupError:  # it stands inside of a call only, such as across a mesh
            return _of_program(entry, moved, book)
        return _of_node(entry, node, example.kink, book)
    wide = replace(example, arguments=in_format(moved.arguments, "float64"))
    try:
        low, exact = (
            _of_node(entry, node_of(one, entry.primitive), example.kink, book)
            for one in (moved, wide)
        )
        if low is not None:
            jax.jit(low.function).lower(*low.points).compile()
    except (LookupError, NotImplementedError, TypeError, ValueError):
        return None  # JAX has the primitive, or the example, in wider formats only
    return low and replace(low, exact=exact, narrow=True)


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
        where=f"{node.inputs} of {entry.primitive} with {node.params}",
        paths=tuple(f"input {i}" for i in node.active),
        points=node.points,
        g=node.g,
        function=node.function,
        pull=pull,
        reference=node.function,
        kink=kink or entry.reason is not None,
        engine=through,
        blind=None if entry.reason else partial(node.blind, entry),
    )
    try:
        jax.eval_shape(case.by_reference, list(case.g), list(case.points))
    except NotImplementedError:  # JAX has no rule for it, or not for these parameters
        return replace(case, reference=None)
    return case
