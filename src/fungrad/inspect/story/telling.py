"""What a story consists of, and how its numbers come about: one step after the other, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from fungrad.inspect.programs import Program, Unit, Value
from fungrad.inspect.story.formulas import Local, Written, written
from fungrad.inspect.story.numerals import MOST, in_layout
from fungrad.transforms import vjp


@dataclass(frozen=True)
class ForwardStep:
    """One step of the forward pass.

    Attributes:
        name: of what it makes.
        formula: `x2 = tanh(x1)`.
        value: the array.
        line: the line of the source, and `file`; 0 if it is not known.
    """

    name: str
    formula: str
    value: Any
    line: int = 0
    file: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's."""
        return np.shape(self.value)


@dataclass(frozen=True)
class Contribution:
    """What one use of a value adds to its gradient: ∂J/∂z · ∂z/∂x.

    Attributes:
        use: the name of z.
        letters: `∂z/∂x`; matrices are vectors in it, `∂vec(Z)/∂vec(W)`.
        formula: the product in letters.
        local: what ∂z/∂x is, in letters; "" if there is no short way to say it.
        value: in the lecture's layout.
        jacobian: ∂vec(z)/∂vec(x) as a matrix [m × n]; `None` if it is large.
        size: its [m × n].
        of_vectors: whether z and x are vectors, or numbers.
    """

    use: str
    letters: str
    formula: str
    local: str
    value: Any
    jacobian: Any
    size: tuple[int, int]
    of_vectors: bool = True


@dataclass(frozen=True)
class BackwardStep:
    """One step of the backward pass.

    Attributes:
        name: the value x whose gradient it is.
        formula: `∂J/∂x = …`, the sum of the contributions.
        value: ∂J/∂x in the lecture's layout.
        gradient: the same in the shape of x, as `fungrad.grad` returns it.
        contributions: one per use of x.
    """

    name: str
    formula: str
    value: Any
    gradient: Any
    contributions: tuple[Contribution, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the value: [1 × n] for a vector x, [n × m] for a matrix."""
        return np.shape(self.value)

    @property
    def jacobian(self) -> Any:
        """The local Jacobian ∂z/∂x, if x is used once and it is small; else `None`."""
        return self.contributions[0].jacobian if len(self.contributions) == 1 else None


@dataclass(frozen=True)
class UpdateStep:
    """One argument after a step of gradient descent, W + η (∂J/∂W)ᵀ.

    Attributes:
        name: the argument.
        formula: in letters.
        value: the new value.
        before: the old one.
        gradient: ∂J/∂W in the shape of W.
        eta: η.
    """

    name: str
    formula: str
    value: Any
    before: Any
    gradient: Any
    eta: float

    @property
    def shape(self) -> tuple[int, ...]:
        """The argument's."""
        return np.shape(self.value)


@dataclass
class Telling:
    """A program, its steps, and the names of its values, run forward and backward."""

    program: Program
    units: Sequence[Unit]
    names: dict[Value, str]
    cost: str
    arrays: dict[Value, Any] = field(default_factory=dict)
    letters: dict[int, Written] = field(default_factory=dict)

    def forward(self, inputs: Sequence[Any]) -> tuple[ForwardStep, ...]:
        """Runs the steps in their order."""
        self.arrays = {v: v.constant for v in self.program.constants}
        self.arrays.update(zip(self.program.inputs, inputs, strict=True))
        steps = []
        for unit in self.units:
            results = unit(*(self.arrays[v] for v in unit.inputs))
            self.arrays.update(zip(unit.outputs, results, strict=True))
            letters = self.letters[id(unit)] = written(unit, self.names, self.arrays)
            left = ", ".join(self.names[v] for v in unit.outputs)
            value = results[0] if len(results) == 1 else tuple(results)
            node = unit.operations[-1].node
            file = os.path.basename(node.file)
            formula = left if left == letters.text else f"{left} = {letters.text}"
            steps.append(ForwardStep(left, formula, value, node.line, file))
        (out,) = self.program.outputs
        if self.names.get(out) != self.cost:
            known = out in self.names
            value = self.arrays[out] if known else out.constant
            text = self.names[out] if known else "a constant"
            steps.append(ForwardStep(self.cost, f"{self.cost} = {text}", value))
        return tuple(steps)

    def backward(self) -> tuple[BackwardStep, ...]:
        """Runs the steps in reverse; a value is told when the last of its uses has been."""
        (out,) = self.program.outputs
        value = self.arrays.get(out, out.constant)
        one = np.asarray(jnp.ones_like(value))
        d, cost = self.derivative(self.cost), self.names.get(out) == self.cost
        steps = [BackwardStep(self.cost, f"{d} = 1", np.ones((1, 1), one.dtype), one)]
        gradients: dict[Value, Any] = {out: jnp.asarray(one)}
        parts: dict[Value, list[Contribution]] = {}
        if not cost:
            parts[out] = [Contribution(self.cost, d, d, "I", np.ones((1, 1)), None, (1, 1))]
        first = {v: i for i in reversed(range(len(self.units))) for v in self.units[i].inputs}
        active = self._active()

        def tell(v):
            if v in parts and v in active:
                steps.append(self._step(v, gradients[v], parts[v]))

        for i, unit in reversed(list(enumerate(self.units))):
            for v in unit.outputs:
                tell(v)
            if any(v in gradients for v in unit.outputs):
                for v, g, part in self._through(unit, gradients, active):
                    gradients[v] = g if v not in gradients else gradients[v] + g
                    parts.setdefault(v, []).append(part)
            for v in unit.inputs:
                if v in self.program.inputs and first[v] == i:
                    tell(v)
        for v in self.program.inputs:
            if v not in first and v.is_float:
                if v in parts:
                    tell(v)
                else:
                    steps.append(self._untouched(v))
        told = {step.name for step in steps}
        missed = [v for v in self.program.inputs if v.is_float and self.names[v] not in told]
        return (*steps, *map(self._untouched, missed))

    def derivative(self, name: str) -> str:
        """∂J/∂x."""
        return f"∂{self.cost}/∂{name}"

    def _active(self) -> set[Value]:
        """The values that depend on an argument of floats."""
        active = {v for v in self.program.inputs if v.is_float}
        for unit in self.units:
            if not active.isdisjoint(unit.inputs):
                active.update(v for v in unit.outputs if v.is_float)
        return active

    def _untouched(self, v: Value) -> BackwardStep:
        zero = np.zeros(v.shape, self.arrays[v].dtype)
        formula = f"{self.derivative(self.names[v])} = 0"
        return BackwardStep(self.names[v], formula, in_layout(zero), zero)

    def _step(self, v: Value, g: Any, parts: Sequence[Contribution]) -> BackwardStep:
        terms = " + ".join(part.formula for part in parts).replace("+ −", "− ")
        formula = f"{self.derivative(self.names[v])} = {terms}"
        return BackwardStep(self.names[v], formula, in_layout(g), np.asarray(g), tuple(parts))

    def _through(self, unit: Unit, gradients: dict[Value, Any], active: set[Value]):
        """The contributions of one unit: an input, the gradient, and how it comes about."""
        taken = [v for v in unit.inputs if v in active]
        if not taken:
            return

        def of_taken(*arrays):
            given = {**self.arrays, **dict(zip(taken, arrays, strict=True))}
            return [
                x
                for v, x in zip(unit.outputs, unit(*(given[v] for v in unit.inputs)), strict=True)
                if v.is_float
            ]

        outputs, pullback = vjp(of_taken, *(self.arrays[v] for v in taken))
        floats = [v for v in unit.outputs if v.is_float]
        arriving = [
            gradients.get(v, jnp.zeros_like(x)) for v, x in zip(floats, outputs, strict=True)
        ]
        answers = pullback(arriving)
        matrices = self._jacobians(outputs, pullback, taken)
        told = [v for v in floats if v in gradients]
        for i, (v, g) in enumerate(zip(taken, answers, strict=True)):
            jacobian = None if matrices is None else matrices[i]
            yield v, g, self._contribution(unit, told, v, g, jacobian, gradients)

    def _jacobians(self, outputs: Any, pullback: Any, taken: Sequence[Value]) -> Any:
        """∂vec(z)/∂vec(x) by each input, one row per entry of z, if that is small."""
        m, n = (sum(map(np.size, arrays)) for arrays in (outputs, [self.arrays[v] for v in taken]))
        is_complex = any(map(np.iscomplexobj, (*outputs, *(self.arrays[v] for v in taken))))
        if len(outputs) != 1 or not 0 < m <= MOST or m * n > 16 * MOST or is_complex:
            return None
        shape, dtype = outputs[0].shape, outputs[0].dtype
        rows = [pullback([row]) for row in np.eye(m, dtype=dtype).reshape(m, *shape)]
        return [np.stack([np.ravel(row[i]) for row in rows]) for i in range(len(taken))]

    def _contribution(
        self, unit: Unit, told: Sequence[Value], v: Value, g: Any, jacobian: Any, gradients: Any
    ) -> Contribution:
        x, uses = self.names[v], [self.names[z] for z in told]
        local: Local | None = self.letters[id(unit)].locals.get(v)
        if local is not None and local.claim is not None:
            claimed, true = local.claim(np.asarray(gradients[told[0]], float)), np.asarray(g, float)
            error = max(1e-3, 8 * float(jnp.finfo(g.dtype).eps))
            if not np.allclose(claimed, true, error, error * np.max(np.abs(true), initial=0)):
                local = None
        if local is None or len(told) != 1:
            formula = " + ".join(f"{self.derivative(z)} · ∂{z}/∂{x}" for z in uses)
        else:
            formula = local.step(self.derivative(uses[0]))
        text = "" if local is None else local.text
        size = (sum(int(np.prod(z.shape)) for z in told), int(np.prod(v.shape)))
        of_vectors = max(len(z.shape) for z in (v, *told)) < 2
        above, below = ([*map(self._as_vector, values)] for values in (told, [v]))
        letters = f"∂{above[0]}" if len(above) == 1 else f"∂({', '.join(above)})"
        letters, use = f"{letters}/∂{below[0]}", ", ".join(uses)
        return Contribution(use, letters, formula, text, in_layout(g), jacobian, size, of_vectors)

    def _as_vector(self, v: Value) -> str:
        return f"vec({self.names[v]})" if len(v.shape) > 1 else self.names[v]
