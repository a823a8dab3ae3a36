"""What an error says that arises inside a rule or a pass: which node, where, of which shapes.

A rule of the user's that fails is a `RuleError`, raised from what it raised. An error that arises
in a rule of the book, or in a function whose author wrote its derivative, keeps its type and its
text, as under JAX; what there is to say is a note on it.
"""

from __future__ import annotations

import os
from typing import Any

import jax

from fungrad import _jax
from fungrad.graph import Graph, Node
from fungrad.rulebook import CallRule, Rule

MARK = "fungrad: "


class RuleError(TypeError):
    """A rule failed, or returned gradients of the wrong number, shape or dtype."""

    is_taught = False


class At:
    """A context in which an equation of a graph is differentiated: its errors tell of it.

    Args:
        graph: the graph.
        equation: the equation.
        rule: its rule; `None` if it is JAX's.
        act: what is being done, for the errors of rules that are calls.
    """

    __slots__ = ("act", "equation", "graph", "rule")

    def __init__(self, graph: Any, equation: Any, rule: Any, act: str):
        self.graph, self.equation, self.rule, self.act = graph, equation, rule, act

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, Warning):
            self._teach(error)

    def _teach(self, error: Exception) -> None:
        taught = any(note.startswith(MARK) for note in getattr(error, "__notes__", ()))
        if taught or getattr(error, "is_taught", False):
            error.add_note(f"{MARK}inside {self._node.label!r}, {place(self.equation)}")
        elif isinstance(error, RuleError):
            error.args = (f"{error}\n{self._lesson()}",)
            error.is_taught = True
        elif isinstance(self.rule, Rule) and self.rule.is_the_users:
            text = f"{named(self.rule, self.equation)} raised {type(error).__name__}: {error}"
            mended = RuleError(f"{text}\n{self._lesson(error)}")
            mended.is_taught = True
            raise mended from error
        else:
            error.add_note(f"{MARK}{self._opening()}\n{self._lesson(error)}")

    @property
    def _node(self) -> Node:
        nodes = Graph(self.graph).nodes
        found = (node for node in nodes if node.equation is self.equation)
        return next(found, Node(self.equation, self.equation.primitive.name))

    def _opening(self) -> str:
        if isinstance(self.rule, Rule):
            return f"raised in {named(self.rule, self.equation)}"
        return f"raised in {self.act} of {self._node.label!r}, {place(self.equation)}"

    def _lesson(self, error: Exception | None = None) -> str:
        """The node, its shapes, the formula of its rule, and what to do."""
        node, equation = self._node, self.equation
        where = f" in {node.function}" if node.line else ""
        scope = f", scope {node.scope}" if node.scope else ""
        inputs, outputs = (
            ", ".join(v.aval.str_short() for v in variables)
            for variables in (equation.invars, equation.outvars)
        )
        lines = {
            "node": f"{node.label!r}, {os.path.basename(node.file)}:{node.line}{where}{scope}",
            "shapes": f"({inputs}) -> ({outputs})",
            "formula": self._formula(),
            "mend": self._mend(error),
        }
        return "\n".join(f"  {key + ':':<9}{text}" for key, text in lines.items() if text)

    def _formula(self) -> str:
        if not isinstance(self.rule, Rule):
            return ""
        instead = self.rule.instead
        own = self.rule.jacobian
        return own or (f"{instead.jacobian} (of the rule that is replaced)" if instead else "")

    def _mend(self, error: Exception | None) -> str:
        if isinstance(error, jax.errors.UnexpectedTracerError):
            return (
                "a rule may close over what is not differentiated and no effect makes; make the "
                "value an argument of the function, or close over jax.lax.stop_gradient of it"
            )
        if isinstance(error, jax.errors.JAXTypeError):
            return (
                "values are not known while a gradient is traced: choose by jnp.where or lax.cond "
                "instead of if, and index by arrays"
            )
        if isinstance(self.rule, Rule) and self.rule.is_the_users:
            return (
                "a rule is called as (g, out, *inputs, **params), where g is of the output's type, "
                "and returns one gradient per input, of the input's type; None is zero"
            )
        if isinstance(self.rule, CallRule | None):
            return "fg.check.custom_vjp tests a derivative of an author's" * self._is_custom()
        return ""

    def _is_custom(self) -> bool:
        return self.equation.primitive.name.startswith("custom_")


def named(rule: Any, equation: Any) -> str:
    """`the rule of 'tanh' (used at model.py:41)`"""
    name = rule.primitive if rule else equation.primitive.name
    return f"the rule of {name!r} ({place(equation)})"


def place(equation: Any) -> str:
    """`used at model.py:41`"""
    file, line, _ = _jax.line_of(equation)
    return f"used at {file}:{line}"
