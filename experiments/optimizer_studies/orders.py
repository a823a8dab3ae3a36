"""Zeroth, first and second order: J alone, with its gradient, with its Hessian."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg
from experiments.common import data, figures, learning
from experiments.common.report import Report, bad, console, good
from experiments.optimizer_studies.digits import Config


@dataclass(frozen=True)
class Method:
    """A way to descend.

    Attributes:
        order: what it knows of J: 0 its value, 1 its gradient too, 2 its Hessian too.
        asks: what one step asks for.
        optimizer: for `fg.descent.minimize`.
        share: the share of the steps that it gets, where fewer are enough.
    """

    name: str
    order: int
    asks: str
    optimizer: Any
    share: float = 1.0


def methods() -> list[Method]:
    spsa = fg.descent.optimizer("spsa", 0.1)
    evolution = fg.descent.evolution(deviation=0.3)
    return [
        Method("SPSA", 0, "3 values of J", spsa),
        Method("CMA-ES", 0, "17 values of J", evolution),
        Method("gradient descent", 1, "J and its gradient", optax.sgd(0.5)),
        Method("momentum 0.9", 1, "J and its gradient", optax.sgd(0.5, momentum=0.9)),
        Method("Adam", 1, "J and its gradient", optax.adam(0.05)),
        Method("L-BFGS", 1, "J and its gradient, along a line", optax.lbfgs(), 0.25),
        Method("Newton-CG", 2, "J, its gradient, some H · v", fg.descent.newton_cg(), 0.1),
    ]


def compare(report: Report, config: Config) -> dict[str, Any]:
    """J(W, b) = mean cross-entropy + ½ λ ‖W‖², convex with one minimum."""
    examples = data.load("breast_cancer")
    apply, params = learning.build("logistic", examples, (), jax.random.key(config.seed))
    params = jax.tree.map(jnp.zeros_like, params)
    fit = learning.cost_of(apply, examples)

    def J(params: Any) -> jax.Array:
        penalty = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params))
        return fit(params, examples.train) + 0.005 * penalty

    lines, seconds, rows = {}, {}, []
    for method in methods():
        console.print(f"[bold]{method.name}[/bold]")
        steps = max(int(method.share * config.steps), 2)
        lines[method.name], seconds[method.name] = timed(J, params, method, steps, config)
    lowest = min(float(np.nanmin(line)) for line in lines.values())
    gaps = {name: np.maximum(line - lowest, 1e-9) for name, line in lines.items()}
    for method in methods():
        rows.append(order_row(method, gaps[method.name], seconds[method.name]))

    report.section("Zeroth, first and second order")
    report.text(
        "Logistic regression on breast_cancer with an L2 penalty: 62 parameters, one minimum J*. "
        "Black-box methods see J alone; backpropagation adds the gradient for the price of a few "
        "evaluations, however many parameters there are; `fg.hvp` adds products H · v with the "
        "Hessian for the price of a few gradients."
    )
    figure, (by_step, by_time) = figures.axes(2, width=11, height=4.6)
    style = {"ylabel": "J − J*", "log": True}
    figures.curves(by_step, gaps, xlabel="step", title="Against steps", **style)
    figures.curves(
        by_time,
        {
            name: (1e3 * seconds[name] * np.arange(1, len(gap) + 1), gap)
            for name, gap in gaps.items()
        },
        xlabel="milliseconds, without compilation",
        title="Against time",
        **style,
    )
    by_time.set_xscale("log")
    by_step.set_xscale("symlog", linthresh=1)
    by_time.legend().remove()
    report.figure(
        "orders",
        figure,
        caption="How far the cost is above the lowest one found, in float32; 1e-9 stands for not "
        "at all.",
    )
    report.table(
        [
            "method",
            "order",
            "a step asks for",
            "steps to J − J* < 1e-3",
            "J − J* at the end",
            "per step",
        ],
        rows,
    )
    return {name: float(gap[-1]) for name, gap in gaps.items()}


def timed(
    J: Callable[..., jax.Array], params: Any, method: Method, steps: int, config: Config
) -> tuple[np.ndarray, float]:
    """The costs, and the seconds per step: a run of all steps less a run of one."""

    def descend(steps: int) -> tuple[Any, float]:
        began = time.perf_counter()
        descent = fg.descent.minimize(
            J,
            params,
            optimizer=method.optimizer,
            steps=steps,
            key=jax.random.key(config.seed),
            progress=True,
        )
        return descent, time.perf_counter() - began

    _, one = descend(1)
    descent, all_of_them = descend(steps)
    return descent.history, max(all_of_them - one, 1e-6) / max(steps - 1, 1)


def order_row(method: Method, gap: np.ndarray, seconds: float) -> list[Any]:
    (near,) = np.nonzero(gap < 1e-3)
    reached = good(str(near[0])) if len(near) else bad(f"not in {len(gap)}")
    return [
        method.name,
        method.order,
        method.asks,
        reached,
        f"{gap[-1]:.1e}",
        f"{1e3 * seconds:.2g} ms",
    ]
