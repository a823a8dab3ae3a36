"""Why a value is kept or computed again: in words, what the cut went by (crossing.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fungrad import _jax, costs
from fungrad.costs import Effort
from fungrad.inspect.places import Level, Made

_APART = ("scan", "cond", "while")


def why_kept(made: Made, save: Any, kept: set[Any], is_operand: bool, is_read_again: bool) -> str:
    """Why a value crosses the cut.

    Args:
        made: where it is made.
        save: what the outermost cut goes by.
        kept: the variables of all that is kept.
        is_operand: whether a product, or a call, of the backward half reads it.
        is_read_again: whether something that is repeated does.
    """
    if made.carried:
        return "what the loop carries, before each step"
    chosen = _asked_for(made.level, save)
    if chosen is not None:
        return chosen
    effort, apart = _effort(made.level, save), _is_apart(made.level)
    loops = [node for node in made.level.path if node.primitive == "scan"]
    if made.stacks < len(loops):  # it was the inner loop's to return, not to keep
        return _never(loops[made.stacks].equation)
    again, never = _to_repeat(made, kept - {made.variable}, effort)
    if made.node.equation in never:
        return _never(made.node.equation)
    if is_operand and not apart and not effort.operands:
        return "in memory anyway: a product or a call reads it"
    if never:
        return _never(never[0])
    keeping = effort.price_of_byte(apart) * costs.bytes_of(made.variable.aval)
    if again >= keeping and effort.thrift < costs.NEVER:
        return _compared(again, keeping, made.variable)
    if is_read_again or apart:
        return "what is repeated is computed from it"
    return "to repeat it would spare too little"


def _to_repeat(made: Made, given: set[Any], effort: Effort) -> tuple[float, list[Any]]:
    """How many operations compute a value from what is given, and what must not be repeated."""
    waiting, found = [made.variable], {}
    while waiting:
        variable = waiting.pop()
        equation = None if variable in given else made.level.producer.get(variable)
        if equation is not None and id(equation) not in found:
            found[id(equation)] = equation
            if effort.price_of(equation) < costs.NEVER:
                waiting += _variables(equation)
    never = [e for e in found.values() if effort.price_of(e) == costs.NEVER]
    return sum(map(costs.operations, found.values())), never


def why_repeated(level: Level, variable: Any, chain: Sequence[Any], save: Any) -> str:
    """Why the backward half computes a value of the forward half again, by a chain of equations."""
    if all(map(costs.moves, chain)):
        return "layout or format only"
    if _is_invariant(level, chain):
        return "the same at each step of the loop"
    chosen = _asked_for(level, save)
    if chosen is not None:
        return chosen
    effort = _effort(level, save)
    if effort.thrift == costs.NEVER:
        return "for the sake of the budget"
    again = sum(costs.operations(e) for e in chain)
    keeping = effort.price_of_byte(_is_apart(level)) * costs.bytes_of(variable.aval)
    if again <= keeping:
        return _compared(again, keeping, variable)
    dearer = costs.DEARER * keeping
    if again <= dearer and any(node.primitive == "scan" for node in level.path):
        return f"{_compared(again, dearer, variable)} in a loop that keeps much"
    return "on the way to others that are repeated"


def _asked_for(level: Level, save: Any) -> str | None:
    """The words for a choice that is the user's."""
    if any(node.primitive in ("closed_call", "eval_jaxpr") for node in level.path):
        return "the policy of jax.checkpoint"
    if callable(save):
        return "the policy given as save="
    return f'asked for by save="{save}"' if isinstance(save, str) else None


def _effort(level: Level, save: Any) -> Effort:
    effort = Effort() if save is None else save
    return effort.inside or effort if level.path else effort


def _is_apart(level: Level) -> bool:
    return any(node.primitive in _APART for node in level.path)


def _compared(again: float, keeping: float, variable: Any) -> str:
    size = max(variable.aval.size, 1)
    each = " an element" if size > 1 else ""
    return f"{again / size:,.0f} operations{each} to repeat it, {keeping / size:,.0f} to keep it"


def _never(equation: Any) -> str:
    if equation.primitive.name == "while":
        return "a loop's checkpoints, from which it is run again"
    if _is_random(equation):
        return "random bits are not repeated"
    return f"{_jax.function_name(equation) or equation.primitive.name} is not repeated"


def _is_random(equation: Any) -> bool:
    inside = (e for graph in _jax.subgraphs(equation) for e in graph.jaxpr.eqns)
    drawn = equation.primitive.name.startswith(("random_", "threefry", "rng_"))
    return drawn or any(map(_is_random, inside))


def _is_invariant(level: Level, chain: Sequence[Any]) -> bool:
    """Whether the chain reads nothing but constants of the loop."""
    if level.node is None or level.node.primitive != "scan":
        return False
    inputs = level.graph.jaxpr.invars
    consts, _, _ = _jax.scan_operands(level.node.params, inputs)
    made = {v for e in chain for v in e.outvars}
    return {v for e in chain for v in _variables(e)} <= made | {
        *consts,
        *level.graph.jaxpr.constvars,
    }


def _variables(equation: Any) -> list[Any]:
    return [v for v in equation.invars if not isinstance(v, _jax.Literal)]
