"""One step of the backward pass: at an equation, `g_in = g_out · ∂out/∂in`.

A rule is a formula of g, the output and the inputs. Where a graph is being read, it is read once
for each choice of their types, and the operations that it came to are copied from then on: the
layers of a model, and the next model, mostly apply the same rules to the same types. Broadcasting
is undone here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, cast

import jax
import numpy as np
from jax import lax

from fungrad import _jax, formats, teaching
from fungrad.rulebook import CallRule, Halves, Rule
from fungrad.teaching import RuleError


@dataclass(frozen=True)
class Step:
    """An equation that is differentiated: its inputs that are, and its outputs that bring g.

    `references` are the mutable ones among the differentiated inputs.
    """

    equation: Any
    rule: Rule | CallRule | None
    active: tuple[bool, ...]
    wanted: tuple[bool, ...]
    halves: Halves | None = None
    references: tuple[Any, ...] = ()


def pull_back(
    step: Step,
    value_of: Callable[[Any], Any],
    saved: Sequence[Any],
    g: Sequence[Any],
    held: Sequence[Any],
    asked: Sequence[bool],
) -> list[Any]:
    """The gradients at the step's inputs; `None` is zero, and where none is asked for.

    Args:
        value_of: the value of a variable of the graph.
        saved: what the forward half left, of a step that is a call.
        g: the gradients at the outputs, `None` is zero.
        held: references to the gradients at the step's references.
        asked: at which inputs they are wanted.
    """
    foreign = formats.foreign(step.equation.outvars, g)
    if step.halves is not None:
        if foreign is not None and not step.halves.any_format:
            g = formats.due(step.equation.outvars, g)
        return _fitted(step, step.halves.backward(saved, g, *held), foreign, asked)
    inputs = [value_of(v) for v in step.equation.invars]
    out = [value_of(v) for v in step.equation.outvars]
    use = _use_of(step, inputs, out, g, asked) if foreign is None and not held else None
    if use is not None and (formula := _formula(use)):
        return formula(inputs, out, g)
    return _applied(step, inputs, out, g, foreign, asked)


def _applied(step: Step, inputs, out, g, foreign: Any, asked: Sequence[bool]) -> list[Any]:
    """What the step's rule answers to these values."""
    equation, rule = step.equation, step.rule
    inputs = [_as_array(x, v) for x, v in zip(inputs, equation.invars, strict=True)]
    if foreign is not None:
        inputs, out = formats.moved(inputs, *foreign), formats.moved(out, *foreign)
    assert isinstance(rule, Rule)
    if rule.primitive == equation.primitive.name:
        several, params, hidden = equation.primitive.multiple_results, equation.params, 0
    else:  # the rule of a function: one output comes bare, closed-over values are not shown
        several, params, hidden = len(out) > 1, {}, _closed_over_inputs(equation)
    if rule.asks_what_is_active:
        params = {**params, "active": step.active[hidden:]}
    given = (tuple(g), tuple(out)) if several else (g[0], out[0])
    answers = rule(*given, *inputs[hidden:], **params)
    answers = answers if isinstance(answers, tuple | list) else (answers,)
    if len(answers) != len(inputs) - hidden:
        raise RuleError(
            f"{_named(step)} returned {len(answers)} gradients for {len(inputs) - hidden} "
            "inputs; return one per input, None for zero"
        )
    return _fitted(step, [*[None] * hidden, *answers], foreign, asked)


def _as_array(value: Any, variable: Any) -> Any:
    """Rules see a bare number, a literal or a Python scalar, as an array."""
    bare, aval = isinstance(variable, _jax.Literal) or not hasattr(value, "shape"), variable.aval
    return np.asarray(value, cast(Any, aval).dtype) if bare else value


def _closed_over_inputs(equation: Any) -> int:
    """How many leading inputs of a call are values that its function closes over."""
    if "num_consts" in equation.params:
        return equation.params["num_consts"]
    names = _jax.subgraphs(equation)[0].jaxpr.debug_info.arg_names or ()
    return next((i for i, name in enumerate(names) if name), len(names))


# --- Formulas ---------------------------------------------------------------------------------


class _Use:
    """A step, equal to those that apply the same rule to values of the same types.

    `types` are those of the inputs, the outputs, and their gradients: `None` for what is no array
    of the graph that is being read, but a literal, a value that nobody has, or a zero.
    """

    __slots__ = ("asked", "hash", "key", "step", "types")

    def __init__(self, step: Step, contents: Any, types: Any, asked: Sequence[bool]):
        equation, rule = step.equation, cast(Rule, step.rule)
        self.step, self.types, self.asked = step, types, asked
        self.key = (
            (rule.primitive, rule.function, equation.primitive, equation.ctx, step.active, asked),
            tuple([(name, typed(value)) for name, value in equation.params.items()]),
            contents,
            types,
        )
        self.hash = hash(self.key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Use) and self.key == other.key


def _use_of(step: Step, inputs, out, g, asked: Sequence[bool]) -> _Use | None:
    """`None` if no graph is being read, or by a rule of the user's, which may do more."""
    rule, equation = step.rule, step.equation
    by_the_book = isinstance(rule, Rule) and rule.example is not None
    if not (by_the_book and _jax.may_copy() and _jax.may_keep()):
        return None
    variables = [*equation.invars, *equation.outvars]
    contents = tuple([content_of(v) if isinstance(v, _jax.Literal) else v.aval for v in variables])
    types = []
    for v, x in zip(variables, (*inputs, *out), strict=True):
        held = _jax.is_read(x) and x.aval == v.aval
        if not (held or isinstance(v, _jax.Literal) or isinstance(x, _jax.Unknown)):
            return None
        types.append(v.aval if held else None)
    for entry in g:
        if not (entry is None or _jax.is_read(entry)):
            return None
        types.append(None if entry is None else entry.aval)
    try:
        return _Use(step, contents, tuple(types), tuple(asked))
    except TypeError:  # a parameter has no hash
        return None


_PLAIN = frozenset({int, bool, str, type(None)})


def typed(parameter: Any, other: Callable[[Any], Any] | None = None) -> Any:
    """Equal to what is so in type and value all the way down: 1 is neither 1.0 nor True.

    Args:
        other: what stands for a parameter that is no number, text or tuple; `None` is itself.
    """
    kind = type(parameter)
    if kind in _PLAIN:
        return kind, parameter
    if kind is float:
        return parameter.hex()  # -0 is not 0
    if isinstance(parameter, tuple | list):
        return kind, tuple([typed(entry, other) for entry in parameter])
    return kind, parameter if other is None else other(parameter)


def content_of(literal: Any) -> Any:
    """A number bit by bit: -0 is not 0, and 1 is no float."""
    return literal.aval, type(literal.val), np.asarray(literal.val).tobytes()


@_jax.cached_by_value_in_context(4096)
def _formula(use: _Use) -> Callable[..., list[Any]] | None:
    """What the rule comes to, as a function of the values; `None` if it refers to others."""
    step, shown = use.step, []
    equation = step.equation
    count, ends = len(equation.invars), len(equation.invars) + len(equation.outvars)
    variables = [*equation.invars, *equation.outvars]
    others = [v.val if isinstance(v, _jax.Literal) else _jax.Unknown(v.aval) for v in variables]
    others += [None] * (len(use.types) - ends)

    def apply(*arrays):
        given = iter(arrays)
        pairs = zip(use.types, others, strict=True)
        values = [other if aval is None else next(given) for aval, other in pairs]
        inputs, out, g = values[:count], values[count:ends], values[ends:]
        answers = _applied(step, inputs, out, g, None, use.asked)
        shown[:] = [answer is not None for answer in answers]
        return [answer for answer in answers if answer is not None]

    with equation.ctx.manager:
        graph = _jax.trace(apply, [aval for aval in use.types if aval is not None])
    if any(map(_jax.is_tracer, graph.consts)) or graph.jaxpr.effects or graph.jaxpr.is_high:
        return None
    takes, shows = [aval is not None for aval in use.types], tuple(shown)

    def formula(inputs, out, g):
        answers = iter(_jax.copy(graph, [*compress((*inputs, *out, *g), takes)], here=True))
        return [next(answers) if is_there else None for is_there in shows]

    return formula


# --- Answers ----------------------------------------------------------------------------------


def _fitted(step: Step, answers: Sequence[Any], foreign: Any, asked: Sequence[bool]) -> list[Any]:
    """The answers that are asked for, as arrays of the inputs' types; thunks are called."""
    found: list[Any] = []
    for variable, answer, wanted in zip(step.equation.invars, answers, asked, strict=True):
        answer = answer() if wanted and callable(answer) else answer
        fits = wanted and answer is not None
        found.append(_fit(answer, variable.aval, step, foreign) if fits else None)
    return found


def _fit(g: Any, aval: Any, step: Step, foreign: Any) -> Any:
    """The gradient with broadcasting undone, if it then has the input's shape and a due dtype."""
    due: Any = _jax.gradient_type(aval)
    if not hasattr(g, "shape"):  # a Python scalar, or a literal of a graph
        g = jax.numpy.asarray(g, due.dtype)
    broadcasts = step.rule is not None and getattr(step.rule, "broadcasts", False)
    if broadcasts and g.shape == step.equation.outvars[0].aval.shape:
        g = sum_to(g, due)
    by_author = step.halves is not None or (foreign is not None and g.dtype == foreign[1])
    if g.shape != due.shape or (g.dtype != due.dtype and not by_author):
        if step.halves is not None and not _jax.checks_backward_functions():
            return g
        raise RuleError(
            f"{_named(step)} returned a gradient {g.dtype}{list(g.shape)} for an input "
            f"{aval.dtype}{list(aval.shape)}; return {due.dtype}{list(due.shape)}"
        )
    return _jax.moved_to(g, due)


def sum_to(g: Any, x: Any) -> Any:
    """Undo broadcasting: ∂broadcast(x)/∂x sends g to its sums over the axes that were added.

    Args:
        x: an array, or the type of one.

    >>> import jax.numpy as jnp
    >>> sum_to(jnp.ones((2, 3)), jnp.ones((1, 3))).tolist()
    [[2.0, 2.0, 2.0]]
    """
    if g.shape == x.shape:
        return g
    added = g.ndim - x.ndim
    axes = (*range(added), *(i + added for i, n in enumerate(x.shape) if n != g.shape[i + added]))
    summed = lax.reduce_sum_p.bind(g, axes=axes, out_sharding=None)
    return summed if summed.shape == x.shape else lax.reshape(summed, x.shape)


def _named(step: Step) -> str:
    return teaching.named(step.rule, step.equation)
