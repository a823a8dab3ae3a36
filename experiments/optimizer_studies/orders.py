"""Zeroth, first and second order: J alone, with its gradient, with its Hessian.

Logistic regression with a penalty, J(W, b) = mean cross-entropy + ½ λ (‖W‖² + ‖b‖²), is convex with
one minimum J*.
"""

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

PENALTY = 0.01  # λ
NEAR = 1e-3  # J − J* of a descent that has arrived
LEAST = 1e-9  # what J − J* = 0 is drawn as; float32 says no more about J than 1e-8


@dataclass(frozen=True)
class Method:
    """A way to descend.

    Attributes:
        order: what it knows of J: 0 its value, 1 its gradient too, 2 its Hessian too.
        asks: what one step asks for.
        values, gradients: how often a step asks for J, and for J with its gradient; None where
            that changes from step to step.
        optimizer: for `fg.descent.minimize`.
    """

    name: str
    order: int
    asks: str
    values: int | None
    gradients: int | None
    optimizer: Any


def methods() -> list[Method]:
    population = 16
    spsa = fg.descent.optimizer("spsa", 0.1)
    evolution = fg.descent.evolution(population=population, deviation=0.3)
    newton = fg.descent.newton_cg()
    return [
        Method("SPSA", 0, "3 values", 3, 0, spsa),
        Method("CMA-ES", 0, f"{population + 1} values", population + 1, 0, evolution),
        Method("gradient descent", 1, "1 gradient", 0, 1, optax.sgd(0.5)),
        Method("momentum 0.9", 1, "1 gradient", 0, 1, optax.sgd(0.5, momentum=0.9)),
        Method("Adam", 1, "1 gradient", 0, 1, optax.adam(0.05)),
        Method("L-BFGS", 1, "gradients along a line", None, None, optax.lbfgs()),
        Method("Newton-CG", 2, "1 gradient, several H · v", None, None, newton),
    ]


def compare(report: Report, config: Config) -> dict[str, Any]:
    examples = data.load("breast_cancer")
    apply, params = learning.build("logistic", examples, (), jax.random.key(config.seed))
    params = jax.tree.map(jnp.zeros_like, params)
    fit = learning.cost_of(apply, examples)

    def J(params: Any) -> jax.Array:
        squares = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params))
        return fit(params, examples.train) + 0.5 * PENALTY * squares

    lines = {method.name: descend(J, params, method, config) for method in methods()}
    lowest = min(float(line.min()) for line in lines.values())
    gaps = {name: np.maximum(line - lowest, LEAST) for name, line in lines.items()}
    prices = measure_prices(J, params, repeats=3 if config.smoke else 200)

    report.section("Zeroth, first and second order")
    report.text(
        f"Logistic regression on breast_cancer with an L2 penalty: "
        f"{learning.parameter_count(params)} parameters, one minimum J*. A black-box method sees "
        f"J alone; backpropagation adds the gradient for the price of a few values, however many "
        f"parameters there are; `fg.hvp` adds products H · v with the Hessian for the price of a "
        f"few gradients."
    )
    report.figure(
        "orders",
        orders_figure(gaps, prices),
        caption="How far the cost is above the lowest one that was found, J − J*, in float32. "
        "Left, against steps; a line ends where the cost has stopped changing. Right, against "
        "what the steps cost, in values of J, for the methods whose steps all cost the same: J "
        f"with its gradient is priced at {prices['gradient']:.1f} values, as measured below.",
    )
    report.table(
        ["method", "order", "a step asks for", f"steps to J − J* < {NEAR:g}", "J − J* at the end"],
        [order_row(method, gaps[method.name]) for method in methods()],
    )
    report.table(
        ["asked of fungrad", "price"],
        [
            ["the value J", "1"],
            ["J and its gradient, `fg.value_and_grad`", f"{prices['gradient']:.1f}"],
            ["its gradient and H · v, `fg.hvp`", f"{prices['hvp']:.1f}"],
            ["the whole Hessian, `fg.hessian`", f"{prices['hessian']:.1f}"],
        ],
        caption="Measured under `jax.jit`, the shortest of many runs, in units of one value of J.",
    )
    return {"gap": {name: float(gap[-1]) for name, gap in gaps.items()}, "price": prices}


def descend(
    J: Callable[[Any], jax.Array], params: Any, method: Method, config: Config
) -> np.ndarray:
    console.print(f"[bold]{method.name}[/bold]")
    return fg.descent.minimize(
        J,
        params,
        optimizer=method.optimizer,
        steps=config.steps,
        tolerance=1e-8 if method.order else None,  # values of random steps may agree by chance
        key=jax.random.key(config.seed),
        progress=True,
    ).history


def measure_prices(J: Callable[[Any], jax.Array], params: Any, repeats: int) -> dict[str, float]:
    """The shortest times of the gradient, of H · v and of H, in units of the time of J."""
    ones = jax.tree.map(jnp.ones_like, params)
    asked: dict[str, Callable[[Any], Any]] = {
        "value": J,
        "gradient": fg.value_and_grad(J),
        "hvp": lambda params: fg.hvp(J, (params,), (ones,)),
        "hessian": fg.hessian(J),
    }
    seconds = {}
    for name, function in asked.items():
        compiled = jax.jit(function)
        jax.block_until_ready(compiled(params))
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            jax.block_until_ready(compiled(params))
            times.append(time.perf_counter() - began)
        seconds[name] = min(times)
    return {name: each / seconds["value"] for name, each in seconds.items()}


def orders_figure(gaps: dict[str, np.ndarray], prices: dict[str, float]) -> Any:
    figure, (by_step, by_price) = figures.axes(2, width=11, height=4.6)
    for index, method in enumerate(methods()):
        gap = gaps[method.name]
        style = {"color": figures.COLORS[index], "linestyle": figures.DASHES[index]}
        steps = np.arange(1, len(gap) + 1)
        by_step.loglog(steps, gap, label=method.name, **style)
        if method.values is not None and method.gradients is not None:
            price = method.values + method.gradients * prices["gradient"]
            by_price.loglog(steps * price, gap, label=method.name, **style)
    by_step.set(xlabel="step", ylabel="J − J*", title="Against steps")
    by_price.set(xlabel="values of J", title="Against what the steps cost")
    by_step.legend(fontsize=9)
    return figure


def order_row(method: Method, gap: np.ndarray) -> list[Any]:
    (near,) = np.nonzero(gap < NEAR)
    reached = good(str(near[0])) if len(near) else bad(f"more than {len(gap)}")
    return [method.name, method.order, method.asks, reached, f"{gap[-1]:.1e}"]
