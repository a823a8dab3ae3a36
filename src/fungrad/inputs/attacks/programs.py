"""The model as a graph, and the compiled programs of a method on a chunk of examples.

A program belongs to a model (the function that was given), its graph and the shapes, and the last
few are kept. The graph is read anew in every call, and what the model holds, its parameters, are
arguments of the program: they may change from one call to the next, and be traced.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from fungrad import _jax
from fungrad._arguments import widened
from fungrad.inputs.attacks.criteria import Misclassified
from fungrad.inputs.attacks.method import BallMethod, Method, MinimumNormMethod
from fungrad.inputs.attacks.problem import Problem
from fungrad.inputs.constraints import lengths, project


@dataclass(frozen=True)
class Identity:
    """Any object as a key: equal to itself alone."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def key_of(model: Callable[..., Any]) -> Any:
    """The model as a key of a cache; a bound method is made anew at every access, yet equal."""
    try:
        hash(model)
    except TypeError:
        return Identity(model)
    return model


@dataclass(frozen=True)
class Graphs:
    """The model read twice: at the precision that JAX is set to, and at the highest.

    Attributes:
        text: the graphs in print, by which they are compared.
        fast, precise: the graphs, with their constants as leading inputs.
    """

    model: Any
    text: tuple[str, str]
    fast: Any = field(compare=False)
    precise: Any = field(compare=False)


def read(model: Callable[..., Any], shape: tuple[int, ...], dtype: Any) -> tuple[Graphs, Any]:
    """The graphs of the model at examples of that shape, and the values of their constants."""

    def trace():
        aval = jax.typeof(jax.ShapeDtypeStruct(shape, dtype))
        return _jax.open_constants(_jax.trace(lambda x: [_one_array(model(x))], [aval]))

    fast, constants = trace()
    with jax.default_matmul_precision("highest"):
        precise, others = trace()
    graphs = Graphs(key_of(model), (str(fast), str(precise)), fast, precise)
    return graphs, (constants, others)


def _one_array(z: Any) -> Any:
    """What a model returns, unless it is more than an array, or none."""
    if not hasattr(z, "dtype"):
        raise TypeError(
            f"model must return one array, logits [N, C], got {type(z).__name__}; "
            "for example lambda x: model(x)[0]"
        )
    return z


@dataclass(frozen=True)
class Task:
    """What a program is compiled for; everything else are its arguments.

    Attributes:
        graphs: the model.
        method: how to attack; where there is none to be run, None.
        norm: of the distances.
        criterion: its class.
        shape, dtype: of one example.
        bounds: (low, high).
    """

    graphs: Graphs
    method: Method | None
    norm: float
    criterion: type[Misclassified]
    shape: tuple[int, ...]
    dtype: Any
    bounds: tuple[float, float]

    def problem(self, constants: Any, x: jax.Array, labels: jax.Array, keys: Any) -> Problem:
        """The examples x[N, ...] as methods see them."""

        def model(graph, values):
            def logits(flat):
                inputs = flat.astype(self.dtype).reshape(len(flat), *self.shape)
                (z,) = _jax.evaluate(graph, [*values, inputs])
                return widened(z)

            return logits

        return Problem(
            logits=model(self.graphs.fast, constants[0]),
            precise=model(self.graphs.precise, constants[1]),
            x=widened(x).reshape(len(x), -1),
            criterion=self.criterion(labels),
            bounds=self.bounds,
            keys=keys,
            shape=self.shape,
            dtype=self.dtype,
        )

    def judged(self, problem: Problem, delta: jax.Array, epsilon: jax.Array | None) -> Any:
        """x + δ as it is handed back, whether the criterion holds there, and how far it is."""
        outcome = problem.outcome(delta, self.norm, epsilon)
        success = problem.criterion.holds(problem.precise(outcome))
        distance = lengths(outcome.astype(problem.x.dtype) - problem.x, self.norm)
        return outcome.reshape(len(outcome), *self.shape), success, distance


# --- the programs: (task, constants, rows, shared), rows with one entry per example ---------------


def attacked(task: Task, constants: Any, rows: Any, shared: Any) -> Any:
    """(x + δ, success, distance); rows: x, labels, places; shared: key, ε.

    Random numbers depend on the examples' places among all of them, not on the chunk. A method
    for minimum norms does not look at ε.
    """
    (x, labels, places), (key, epsilon) = rows, shared
    keys = jax.vmap(lambda place: jax.random.fold_in(key, place))(places)
    problem = task.problem(constants, x, labels, keys)
    if isinstance(task.method, BallMethod):
        delta = jnp.where(epsilon > 0, task.method.find(problem, epsilon), 0)
        return task.judged(problem, delta, epsilon)
    assert isinstance(task.method, MinimumNormMethod)
    return task.judged(problem, task.method.find(problem), None)


def clipped(task: Task, constants: Any, rows: Any, shared: Any) -> Any:
    """What `attacked` returns, of examples that are brought into the ball; rows: x, labels, x'."""
    (x, labels, moved), (epsilon,) = rows, shared
    problem = task.problem(constants, x, labels, None)
    delta = widened(moved).reshape(len(x), -1) - problem.x
    outside = lengths(delta, task.norm) > epsilon
    nearer = project(delta, task.norm, epsilon, problem.room)
    return task.judged(problem, jnp.where(outside[:, None], nearer, delta), epsilon)


def examined(task: Task, constants: Any, rows: Any, shared: Any) -> Any:
    """The logits of the graphs read first and second, [N, C], and where the gradient is 0, [N]."""
    x, labels = rows
    problem = task.problem(constants, x, labels, None)
    gradient, _, _ = problem.gradient(jnp.zeros_like(problem.x))
    return problem.logits(problem.x), problem.precise(problem.x), jnp.all(gradient == 0, axis=-1)


def logits_of(task: Task, constants: Any, rows: Any, shared: Any) -> jax.Array:
    """z [N, C], at the highest precision."""
    x, labels = rows
    problem = task.problem(constants, x, labels, None)
    return problem.precise(problem.x)


@_jax.cached_by_value(64)
def compiled(part: Callable[..., Any], task: Task) -> Any:
    """The program under `jax.jit`."""
    return jax.jit(functools.partial(part, task))
