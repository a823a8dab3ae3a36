"""Cases: a pullback that is under test, at given arguments, with what else is known about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fungrad.check.arrays import Arrays, formats_of, inner, magnitudes, random_like, scaled, widest
from fungrad.check.programs import formats
from fungrad.check.running import run_once


@dataclass(frozen=True, eq=False)
class Case:
    """A pullback under test, as functions of flat lists of float arrays.

    Attributes:
        name: what is tested, such as "tanh" or the name of a function.
        where: at which example or arguments, in words.
        paths: the name of each argument, such as "params['w']".
        points: the arguments that are differentiated.
        g: gradients at the outputs.
        function: points -> the outputs that are floats.
        pull: (g, points, of=None) -> the gradients of all points, or of those at the places `of`;
            an entry of g that is `None` is a zero.
        reference: points -> the outputs, by a function that JAX differentiates.
        is_stated: the user says that its gradients are meant, whatever the slopes are.
        stops: the function holds values back from differentiation, by `stop_gradient`.
        exact: the same case in float64, where this one is in another format.
        granted: an eps that operations of this case may have, as the case has that it stands for.
        narrow: of this case only rounding is of interest; another one stands for the rest.
        kink: the gradient at these points is a convention; JAX alone knows it.
        engine: (g, points) -> the same gradients by another route through a transform.
        blind: (g, points, chosen) -> the gradients of chosen linear points, their values unknown.
        vjp: points -> (outputs, pullback), run step by step; `None` for pure rules.
        silent: witnesses that cannot be asked, each with the reason.
    """

    name: str
    where: str
    paths: tuple[str, ...]
    points: Arrays
    g: Arrays
    function: Callable[..., list[Any]]
    pull: Callable[..., list[Any]]
    reference: Callable[..., list[Any]] | None = None
    is_stated: bool = False
    stops: bool = False
    exact: Case | None = None
    granted: float = 0.0
    narrow: bool = False
    kink: bool = False
    engine: Callable[..., list[Any]] | None = None
    blind: Callable[..., list[Any]] | None = None
    vjp: Callable[..., Any] | None = None
    silent: Mapping[str, str] = field(default_factory=dict)

    def by_reference(self, g: Arrays, points: Arrays) -> list[Any]:
        """The gradients by JAX's autodiff of the reference."""
        assert self.reference is not None
        with jax.numpy_dtype_promotion("standard"):  # JAX's rule of pow with an integer needs that
            return list(jax.vjp(self.reference, *points)[1](list(g)))

    @cached_property
    def true_gradients(self) -> list[np.ndarray]:
        """The gradients at |g| in float64, by JAX's autodiff of the reference, if that is known."""
        case = self if self.exact is None else self.exact
        pull = case.pull if case.reference is None else case.by_reference
        # Also where the witness that asks is being traced.
        with jax.ensure_compile_time_eval(), formats_of([*case.points, *case.g]):
            return run_once(pull, magnitudes(case.g), list(case.points))

    @property
    def coarsest(self) -> float:
        """The eps of the coarsest format that a gradient has a reason to be computed in."""
        return max(self.granted, self.eps)

    @cached_property
    def eps(self) -> float:
        """The largest eps of the formats that the function computes in."""
        with formats_of([*self.points, *self.g]):
            graph = jax.make_jaxpr(self.function)(*self.points)
        return max(float(jnp.finfo(dtype).eps) for dtype in formats(graph))

    @cached_property
    def is_undefined(self) -> bool:
        """Whether an output is no number; where it is none, a gradient may be none as well."""
        with jax.ensure_compile_time_eval(), formats_of([*self.points, *self.g]):
            outputs = run_once(self.function, *self.points)
            return any(bool(np.isnan(z).any()) for z in outputs)

    @cached_property
    def runs(self) -> bool:
        """Whether the function can be compiled at all, as it cannot for want of devices."""
        try:
            jax.jit(lambda: self.function(*self.points)).lower().compile()
        except Exception:  # of any type
            return False
        return True

    def is_linear_in(self, chosen: Sequence[int]) -> bool:
        """Whether JAX can transpose the function by the chosen points.

        And f(2 x) + f(0) = 2 f(x), for some products JAX transposes by both factors at once: there
        the sides differ by 2 f(x).
        """

        def f(*xs):
            given = dict(zip(chosen, xs, strict=True))
            return self.function(*(given.get(i, x) for i, x in enumerate(self.points)))

        at = [jnp.asarray(self.points[i]) for i in chosen]
        # Also where the witness that asks is being traced.
        with jax.ensure_compile_time_eval():
            try:
                jax.eval_shape(jax.linear_transpose(f, *at), list(self.g))
            except Exception:  # of any type: JAX's rules of transposition assert what they need
                return False
            if len(at) == 1:
                return True
            zero, once, twice = (f(*(scaled(x, k) for x in at)) for k in range(3))
            of_each = zip(*(map(widest, z) for z in (zero, once, twice)), strict=True)
            return all(np.allclose(c + a, b + b, rtol=1e-3, atol=1e-3) for a, b, c in of_each)

    @property
    def weights(self) -> list[Any]:
        """The random weights w by which the gradients are summed for their own gradient."""
        return random_like(self.points, seed=3)

    def of_gradients(self) -> Case:
        """The case of the function Re Σ w · pull(g, x), whose slopes are second derivatives."""

        def total_by(pull):
            return lambda *points: [inner(self.weights, pull(self.g, points))]

        known = None if self.reference is None else total_by(self.by_reference)
        with formats_of([*self.points, *self.g]):
            once = replace(self, function=total_by(self.pull), reference=known)
            return replace(once, g=[jnp.ones(())])

    def moved(self) -> Case:
        """The case at points nearby, which are at no kink by chance."""
        with formats_of(self.points):
            points = [jnp.asarray(x) for x in self.points]
            away = [0.01 * jnp.asarray(d) for d in random_like(points, seed=5)]
            points = [x + d.astype(x.dtype) for x, d in zip(points, away, strict=True)]
        return replace(self, points=points, exact=self.exact and self.exact.at(points))

    def with_zeros(self) -> Case:
        """The case with every third entry set to zero."""

        def clear(x):
            third = np.arange(x.size).reshape(x.shape) % 3 == (1 if x.size > 1 else 0)
            return jnp.where(third, jnp.zeros_like(x), x)

        with formats_of(self.points):
            points = [clear(jnp.asarray(x)) for x in self.points]
        return replace(self, points=points, where=f"{self.where}, every third entry set to zero")

    def at(self, points: Arrays) -> Case:
        """The case at other points, which are brought to its formats."""
        with formats_of(self.points):
            pairs = zip(points, self.points, strict=True)
            return replace(self, points=[jnp.asarray(x).astype(y.dtype) for x, y in pairs])


def pull_by(transform: Callable[..., Any], flat: Callable[..., list[Any]]) -> Callable[..., Any]:
    """The `pull` of a function by `jax.vjp`, `fungrad.vjp` or the like."""

    def pull(g: Arrays, points: Arrays, of: Any = None) -> list[Any]:
        of = range(len(points)) if of is None else of
        present = [k for k, entry in enumerate(g) if entry is not None]

        def chosen(*xs):
            moved = list(points)
            for i, x in zip(of, xs, strict=True):
                moved[i] = x
            outputs = flat(*moved)
            return [outputs[k] for k in present]

        _, pullback = transform(chosen, *(points[i] for i in of))
        return list(pullback([g[k] for k in present]))

    return pull
