"""What is known about a graph before relevance passes it, and parts of it that belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fungrad import _jax, passes, placing
from fungrad.passes import Settings
from fungrad.rulebooks.lrp.statistics import Source, sources


class View(NamedTuple):
    """What is known about a graph.

    Attributes:
        graph: the graph.
        active: the variables that are differentiated.
        sources: where their values come from.
        makers: the equation that makes a variable.
        users: those that use it.
        uses: how often it is used, as an output too.
    """

    graph: Any
    active: set[Any]
    sources: dict[Any, Source]
    makers: dict[Any, Any]
    users: dict[Any, list[Any]]
    uses: Counter[Any]

    @classmethod
    def of(cls, graph: Any, active: Sequence[bool], settings: Settings) -> View:
        reached = passes.flow(graph, active, settings)
        makers = {v: e for e in graph.jaxpr.eqns for v in e.outvars}
        users: dict[Any, list[Any]] = {}
        for e in graph.jaxpr.eqns:
            for v in e.invars:
                if not isinstance(v, _jax.Literal):
                    users.setdefault(v, []).append(e)
        used = [v for e in graph.jaxpr.eqns for v in e.invars] + list(graph.jaxpr.outvars)
        uses = Counter(v for v in used if not isinstance(v, _jax.Literal))
        return cls(graph, reached, sources(graph, reached.__contains__), makers, users, uses)

    def is_active(self, variable: Any) -> bool:
        """Whether a variable is differentiated; a literal is not."""
        return not isinstance(variable, _jax.Literal) and variable in self.active

    def maker(self, variable: Any) -> Any:
        """The equation that makes a variable, if it carries no rule of its own; else `None`."""
        found = None if isinstance(variable, _jax.Literal) else self.makers.get(variable)
        return None if found is None or placing.carried(found) else found

    def only_user(self, variable: Any) -> Any:
        """The one equation that uses a variable, if it carries no rule of its own; else `None`."""
        found = self.users.get(variable, []) if self.uses[variable] == 1 else []
        return found[0] if found and not placing.carried(found[0]) else None


class Region(NamedTuple):
    """Equations that become one call, in order: its first inputs, its output, its rule."""

    equations: list[Any]
    inputs: list[Any]
    output: Any
    rule: Callable[..., Any]
