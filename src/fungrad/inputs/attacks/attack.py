"""One call for every attack: the checks, the compiled program, its chunks, the outcome."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad._arguments import known, widened
from fungrad.inputs.attacks import arguments, autoattack, programs
from fungrad.inputs.attacks.autoattack import AutoAttack
from fungrad.inputs.attacks.criteria import Misclassified
from fungrad.inputs.attacks.method import Method, MinimumNormMethod
from fungrad.inputs.attacks.programs import Task
from fungrad.inputs.attacks.report import Attack, RobustAccuracy
from fungrad.inputs.attacks.running import Runner, bar

PORTION = 128  # examples that AutoAttack works on at once: what is left after a part is packed


def attack(
    model: Callable[..., Any],
    x: Any,
    criterion: Misclassified,
    method: Method,
    epsilons: Any = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    key: Any,
    chunk: int | None = None,
    progress: bool = False,
) -> Attack:
    """Changes inputs a little so that a model goes wrong: x' with ‖x' − x‖_p ≤ ε in the bounds.

    All restarts and targets of a method run in one compiled program over the examples; it serves
    every ε, and later calls with the same model, shapes and method. An example's outcome
    depends on the key and its place, not on how many ε there are. Gradients are fungrad's.

    Args:
        model: any JAX function x[N, ...] -> logits[N, C] of independent examples; a normalisation
            of its inputs belongs into it.
        x: clean floating-point examples [N, ...], inside the bounds.
        criterion: `Misclassified(labels)` or `Targeted(labels)`, labels integers [N].
        method: how: `PGD(norm=2)`, `AutoAttack()`, ...
        epsilons: the size of the ball, or several [K]. None: minimum-norm methods (`DeepFool`,
            `CarliniWagner`, `DDN`, `FMN`, `FAB`, `LBFGS`) then return the nearest x' that they
            find; with sizes it is projected onto each ball, and judged again.
        bounds: (low, high), the least and greatest value that an entry of x' may have.
        key: a random key.
        chunk: how many examples run at once; None: all, or as many as memory is left for.
        progress: whether to show a progress bar, where rich is installed.

    Returns:
        An `Attack`: `.x` [K, N, ...], `.success` and `.distance` [K, N], `.robust_accuracy` [K].
        Balls hold to rounding, bounds exactly. Where a method fails, x' is its best attempt, or x.

    Raises:
        TypeError: the model cannot be called, x is not floating-point, labels are not integers,
            or an argument is not of its kind.
        ValueError: x is not finite, not in the bounds or no batch; a label is out of range; a
            size is negative or missing; the bounds are reversed; the model returns no logits.

    Under `jax.jit`, `model`, x and labels may be traced; values are not checked then.

    >>> import fungrad as fg, jax, jax.numpy as jnp
    >>> W = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    >>> found = fg.inputs.attack(
    ...     lambda x: x @ W.T, jnp.array([[0.9, 0.1]]), fg.inputs.Misclassified(jnp.array([0])),
    ...     fg.inputs.PGD(norm=2), [0.1, 0.4], key=jax.random.key(0),
    ... )
    >>> found.success.tolist(), found.robust_accuracy.tolist()
    ([[False], [True]], [1.0, 0.0])
    """
    session = Session.of(model, x, criterion, method, epsilons, bounds, key, chunk)
    method, epsilons = session.method, session.epsilons
    with bar(progress and session.runner.concrete, type(method).__name__, session.total) as advance:
        session.runner.advance = advance
        found = session.found()
    moved, success, distance = (jnp.stack(leaf) for leaf in zip(*found, strict=True))
    return Attack(moved, success, distance, epsilons, method)


@dataclass
class Session:
    """One call of `attack`: its arguments, checked, and what runs its programs."""

    runner: Runner
    method: Method
    epsilons: Any
    x: jax.Array
    labels: jax.Array
    key: jax.Array

    @classmethod
    def of(cls, model, x, criterion, method, epsilons, bounds, key, chunk) -> Session:
        """The session, when every argument has passed its check."""
        arguments.check_model(model)
        method = arguments.checked_method(method)
        bounds = arguments.checked_bounds(bounds)
        array = arguments.checked_x(x, bounds)
        criterion = arguments.checked_criterion(criterion, len(array))
        epsilons = arguments.checked_epsilons(epsilons, method, widened(array[:0]).dtype)
        key = arguments.checked_key(key)
        chunk = arguments.checked_count("chunk", chunk)

        size = min(len(array), chunk or len(array))
        graphs, constants = programs.read(model, (size, *array.shape[1:]), array.dtype)
        arguments.check_labels(criterion, arguments.classes_of(graphs.fast, size))
        of = type(criterion), array.shape[1:], jnp.dtype(array.dtype), bounds
        concrete = known(array, criterion.labels, *jax.tree.leaves((constants, epsilons, key)))
        runner = Runner(model, Task(graphs, None, method.norm, *of), chunk, concrete)
        runner.known[size] = graphs, constants
        session = cls(runner, method, epsilons, array, criterion.labels, key)
        if concrete:
            arguments.check_logits(runner.run(programs.logits_of, None, session.rows))
        return session

    @property
    def rows(self) -> tuple[jax.Array, jax.Array]:
        return self.x, self.labels

    @property
    def places(self) -> jax.Array:
        """Each example's place, which its random numbers depend on."""
        return jnp.arange(len(self.x), dtype=jnp.uint32)

    @property
    def total(self) -> int:
        """How many examples are attacked, each ε and each part of a method counted."""
        sizes = 0 if self.epsilons is None else len(self.epsilons)
        if isinstance(self.method, MinimumNormMethod):
            return len(self.x) * (1 + sizes)
        parts = self.method.parts if isinstance(self.method, AutoAttack) else [self.method]
        return len(self.x) * sizes * len(parts)

    def found(self) -> list[Any]:
        """(x', success, distance) for each ε."""
        run, rows = self.runner.run, (*self.rows, self.places)
        if isinstance(self.method, AutoAttack):
            return self._one_after_another(self.method)
        if not isinstance(self.method, MinimumNormMethod):
            shared = [(self.key, epsilon) for epsilon in self.epsilons]
            return [run(programs.attacked, self.method, rows, each) for each in shared]
        unused = jnp.zeros((), jnp.float32)
        nearest = run(programs.attacked, self.method, rows, (self.key, unused))
        if self.epsilons is None:
            return [nearest]
        rows = (*self.rows, nearest[0])
        return [run(programs.clipped, self.method, rows, (each,)) for each in self.epsilons]

    # --- AutoAttack ---------------------------------------------------------------------------

    def _one_after_another(self, method: AutoAttack) -> list[Any]:
        """The parts in turn, each on the examples that are left; then the doubts."""
        if self.runner.concrete:
            first, second, zero = self.runner.run(programs.examined, None, self.rows)
            autoattack.doubt_logits(self.runner.task.graphs.fast, first, second)
            autoattack.doubt_gradients(zero)
        pairs = [self._parts(method, epsilon) for epsilon in self.epsilons]
        if self.runner.concrete:
            for _, (by_gradients, by_queries) in pairs:
                autoattack.doubt_robustness(by_gradients, by_queries, len(self.x))
        return [outcome for outcome, _ in pairs]

    def _parts(self, method: AutoAttack, epsilon: jax.Array) -> tuple[Any, tuple[int, int]]:
        """The outcome for one ε, and how many examples gradients and queries broke."""
        concrete, count = self.runner.concrete, len(self.x)
        best, left, broken = None, np.arange(count), [0] * len(method.parts)
        for number, part in enumerate(method.parts):
            if len(left):
                found = self._part(part, left, epsilon)
                best = found if best is None else _better(best, found, left, concrete)
                kept = ~np.asarray(found[1]) if concrete else np.ones(len(left), bool)
                broken[number], left = int(np.sum(~kept)), left[kept]
            self.runner.advance(count - len(left))
        return best, (sum(broken[:-1]), broken[-1])

    def _part(self, part: Method, left: np.ndarray, epsilon: jax.Array) -> Any:
        """One part on the examples that are left."""
        chosen = [each[left] for each in _on_host((*self.rows, self.places), self.runner.concrete)]
        run = functools.partial(self.runner.run, most=PORTION)
        found = run(programs.attacked, part, chosen, (self.key, epsilon))
        if isinstance(part, MinimumNormMethod):
            found = run(programs.clipped, part, (*chosen[:2], found[0]), (epsilon,))
        return _on_host(found, self.runner.concrete)


def _on_host(arrays: Sequence[Any], concrete: bool) -> list[Any]:
    """NumPy's arrays, which can be picked from without a program for every number of them."""
    return [np.array(each) for each in arrays] if concrete else list(arrays)


def _better(best: Any, found: Any, left: np.ndarray, concrete: bool) -> Any:
    """The outcomes with those of the examples `left` put in where they succeeded."""
    success = found[1]
    if concrete:
        for old, new in zip(best, found, strict=True):
            old[left[success]] = new[success]
        return best

    def merged(old, new):
        return jnp.where(success.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return [merged(old, new) for old, new in zip(best, found, strict=True)]


def robust_accuracy(
    model: Callable[..., Any],
    x: Any,
    labels: Any,
    epsilons: Any,
    methods: Method | Sequence[Method] | Mapping[str, Method] | None = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    key: Any,
    chunk: int | None = None,
    progress: bool = False,
) -> RobustAccuracy:
    """How many examples keep their class under every attack of a list, for several sizes.

    Args:
        model, x, bounds, key, chunk, progress: those of `attack`.
        labels: integers [N].
        epsilons: the size of the ball, or several [K].
        methods: a method, several, or several by name; None: `AutoAttack()`. Of several norms
            each has its own line, but the sizes are the same.

    Returns:
        A `RobustAccuracy`, which prints as a table: `.clean`, `.worst` [K], `.attacks` by name.

    Raises:
        TypeError, ValueError: what `attack` raises.

    >>> import fungrad as fg, jax, jax.numpy as jnp
    >>> W, x = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[0.9, 0.1], [0.2, 0.8]])
    >>> print(fg.inputs.robust_accuracy(
    ...     lambda x: x @ W.T, x, jnp.array([0, 1]), [0.1, 0.3, 0.5],
    ...     fg.inputs.PGD(norm=2), key=jax.random.key(0),
    ... ))
    attack  clean   ε = 0.1  ε = 0.3  ε = 0.5
    PGD, 2  1.0000  1.0000   1.0000   0.5000
    """
    if methods is None:
        methods = AutoAttack()
    if not isinstance(methods, Sequence | Mapping):
        methods = [methods]
    named = methods if isinstance(methods, Mapping) else _by_name(methods)
    if not named:
        raise ValueError("methods must hold at least one method, got none")
    for each in named.values():
        arguments.checked_method(each)
    if epsilons is None:
        raise ValueError("epsilons must be given, a size or several, got None")
    found = {
        name: attack(
            model, x, Misclassified(labels), method, epsilons,
            bounds=bounds, key=key, chunk=chunk, progress=progress,
        )
        for name, method in named.items()
    }  # fmt: skip
    z = np.asarray(jax.jit(model)(jnp.asarray(x)))
    clean = float(np.mean(z.argmax(axis=1) == np.asarray(labels)))
    return RobustAccuracy(np.atleast_1d(np.asarray(epsilons, np.float64)), clean, found)


def _by_name(methods: Sequence[Method]) -> dict[str, Method]:
    """Names such as "PGD, inf"; of several alike, with all that they are."""
    names = [f"{type(each).__name__}, {getattr(each, 'norm', 0):g}" for each in methods]
    alike = {name for name in names if names.count(name) > 1}
    return {
        str(method) if name in alike else name: method
        for name, method in zip(names, methods, strict=True)
    }
