"""`story`: the backward pass of a small function, step by step, as the lecture writes it.

units.py reads the steps off a graph, naming.py names their values, formulas.py and known.py put
them into letters, telling.py runs them; text.py, latex.py and page.py render what was told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from fungrad import _arguments
from fungrad.inspect.arguments import named_graph
from fungrad.inspect.programs import program
from fungrad.inspect.story import latex, page, text
from fungrad.inspect.story.naming import closed_over, names
from fungrad.inspect.story.numerals import number
from fungrad.inspect.story.telling import (
    BackwardStep,
    Contribution,
    ForwardStep,
    Telling,
    UpdateStep,
)
from fungrad.inspect.story.units import units

__all__ = ["BackwardStep", "Contribution", "ForwardStep", "Story", "UpdateStep", "story"]


@dataclass(frozen=True)
class Story:
    """The forward pass, the backward pass and the updates of a function; `str` tells them.

    Attributes:
        function: the name of the function.
        cost: the symbol of its output, J.
        forward: the steps from the arguments to the output.
        steps: the steps back, from ∂J/∂J = 1 to the arguments.
        updates: one per argument, if η was given.
        arguments: the names of the arguments that have a gradient.
    """

    function: str
    cost: str
    forward: tuple[ForwardStep, ...]
    steps: tuple[BackwardStep, ...]
    updates: tuple[UpdateStep, ...]
    arguments: tuple[str, ...]

    @property
    def value(self) -> Any:
        """The function's output."""
        return self.forward[-1].value

    @property
    def gradients(self) -> dict[str, Any]:
        """The gradients of the arguments, in their own shapes."""
        told = {step.name: step.gradient for step in self.steps}
        return {name: told[name] for name in self.arguments}

    def __getitem__(self, name: str) -> BackwardStep:
        """The step at whose end is the gradient of a value."""
        found = {step.name: step for step in self.steps}
        if name not in found:
            raise LookupError(f"no gradient of {name!r} in the story; there are {list(found)}")
        return found[name]

    @property
    def markdown(self) -> str:
        """The story in Markdown, its formulas in LaTeX."""
        return latex.markdown(self)

    @property
    def latex(self) -> str:
        """The formulas and numbers alone, in LaTeX."""
        return latex.document(self)

    @property
    def html(self) -> str:
        """The story as tables of a page."""
        return page.html(self)

    def _repr_markdown_(self) -> str:
        return self.markdown

    def _repr_html_(self) -> str:
        return self.html

    def __str__(self) -> str:
        return text.text(self)

    def __repr__(self) -> str:
        return (
            f"Story of {self.function}: {self.cost} = {number(self.value)}, {len(self.steps)} steps"
        )


def story(fun: Callable[..., Any], eta: float | None = None) -> Callable[..., Story]:
    """Tell the backward pass of a small function: `story(fun)(*args)`.

    Every step back is ∂J/∂x = ∂J/∂z · ∂z/∂x, with sizes [m × n], the local Jacobian and the
    numbers; where a value is used twice, the contributions are added. Gradients are in the
    lecture's layout: ∂J/∂x of a vector is a row [1 × n], ∂J/∂W of a matrix W [m × n] is [n × m].
    A step is what one call or operator of the source does. A function of more than 40 of them is
    told function by function, or scope by scope (`jax.named_scope`).

    Arguments bear the names of the function's parameters, edges those that `fungrad.name` gave,
    results the variables that the source assigns them to; what is left is x1, x2, …

    Args:
        fun: a function of pytrees of arrays with one number as its output.
        eta: the learning rate η; then the updates W + η (∂J/∂W)ᵀ of the arguments are told too.
            As in the lecture, η < 0 descends.

    Raises:
        TypeError: `fun` is no function, or `eta` no number; when called: the output is no real
            number, or the arguments are being traced.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> def loss(w, x):
    ...     return (w * x - 1.0) ** 2
    >>> print(fg.story(loss, eta=-0.1)(2.0, 3.0))
    The story of loss
    <BLANKLINE>
    Forward
      x1 = w · x = 6                                        [1 × 1]
      x2 = x1 − 1 = 5                                       [1 × 1]
      J = x2² = 25                                          [1 × 1]
    <BLANKLINE>
    Backward
      ∂J/∂J = 1                                             [1 × 1]
      ∂J/∂x2 = ∂J/∂J · (2 x2)                               [1 × 1]
        = 10
        ∂J/∂x2 = 2 x2 = 10                                  [1 × 1]
      ∂J/∂x1 = ∂J/∂x2                                       [1 × 1]
        = 10
      ∂J/∂w = ∂J/∂x1 · x                                    [1 × 1]
        = 30
        ∂x1/∂w = x = 3                                      [1 × 1]
      ∂J/∂x = ∂J/∂x1 · w                                    [1 × 1]
        = 20
        ∂x1/∂x = w = 2                                      [1 × 1]
    <BLANKLINE>
    Updates, η = -0.1
      w + η (∂J/∂w)ᵀ                                        [1 × 1]
        = 2 - 0.1 · 30
        = -1
      x + η (∂J/∂x)ᵀ                                        [1 × 1]
        = 3 - 0.1 · 20
        = 1

    Source: [rumelhart1986].
    """
    if not callable(fun):
        raise TypeError(f"fun must be a function, got {fun!r}")
    if eta is not None and (np.ndim(eta) or not isinstance(eta, int | float | np.number)):
        raise TypeError(f"eta must be a number, such as -0.1, or None, got {eta!r}")

    def tell(*args: Any, **kwargs: Any) -> Story:
        graph, arrays, edges, _ = named_graph(fun, args, kwargs)
        _refuse(graph, arrays)
        read = program(graph)
        given = {
            v: edges[edge] for v, edge in zip(read.inputs, graph.jaxpr.jaxpr.invars, strict=True)
        }
        cost = next(symbol for symbol in ("J", "L", "cost") if symbol not in given.values())
        given.update(_constants(fun, read, {*given.values(), cost}))
        parts = units(read, set(given))
        known = names(read, parts, given, cost)
        telling = Telling(read, parts, known, cost)
        forward, back = telling.forward(arrays), telling.backward()
        inputs = {given[v]: telling.arrays[v] for v in read.inputs if v.is_float}
        found = {step.name: step for step in back}
        updates = (
            ()
            if eta is None
            else tuple(
                _update(name, x, found[name].gradient, eta, cost) for name, x in inputs.items()
            )
        )
        function = getattr(fun, "__name__", "the function").replace("<lambda>", "the function")
        return Story(function, cost, forward, back, updates, tuple(inputs))

    return tell


def _refuse(graph: Any, arrays: Any) -> None:
    if not _arguments.known(*arrays):
        raise TypeError("story shows values, which a function under jit, vmap or grad has none of")
    outputs = graph.jaxpr.out_avals
    size = [int(np.prod(aval.shape)) for aval in outputs]
    if size != [1] or not jnp.issubdtype(outputs[0].dtype, jnp.floating):
        types = ", ".join(aval.str_short() for aval in outputs)
        raise TypeError(
            f"story tells the gradients of one real number, but the function returns {types}; "
            "reduce it, e.g. by jnp.sum"
        )


def _constants(fun: Any, read: Any, taken: set[str]) -> dict[Any, str]:
    """Names for the arrays that the function closes over; single numbers are written out."""
    variables, found = closed_over(fun), {}
    for value in read.constants:
        name = variables.get(id(value.constant))
        if name is None and np.size(value.constant) == 1:
            continue
        free = (f"{name or 'c'}{k}" for k in range(1, len(read.constants) + len(taken) + 2))
        name = name if name and name not in taken else next(n for n in free if n not in taken)
        found[value] = name
        taken.add(name)
    return found


def _update(name: str, x: Any, g: Any, eta: float, cost: str) -> UpdateStep:
    x, g = np.asarray(x), np.asarray(g)
    formula = f"{name} + η (∂{cost}/∂{name})ᵀ"
    return UpdateStep(name, formula, x + np.asarray(eta, x.dtype) * g, x, g, float(eta))
