"""Four costs of one parameter: which are differentiable, and which are hard to optimise?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import fungrad as fg
from experiments.common import figures
from experiments.common.report import Report, bad, good
from experiments.optimizer_studies.digits import Config

LANDSCAPES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "bowl: θ²": lambda theta: jnp.square(theta),
    "kink: |θ|": lambda theta: jnp.abs(theta),
    "stairs: ⌊2 |θ|⌋ / 2": lambda theta: jnp.floor(2 * jnp.abs(theta)) / 2,
    "ripples: θ² / 2 + (1 − cos 9θ) / 3": (
        lambda theta: jnp.square(theta) / 2 + (1 - jnp.cos(9 * theta)) / 3
    ),
}


def compare(report: Report, config: Config) -> dict[str, Any]:
    start = jnp.array([-1.8])
    ways = {
        "gradient descent": optax.sgd(0.05),
        "CMA-ES": fg.descent.evolution(deviation=0.5, population=8),
    }
    report.section("Which are differentiable, which are hard?")
    report.text(
        "Four costs of one parameter. The bowl is smooth. The kink has a gradient everywhere but "
        "at one point, where JAX's convention gives 0. The stairs have a gradient, and it is 0 "
        "almost everywhere: there is nothing to descend along. The ripples are as smooth as the "
        "bowl, and gradient descent stops in the nearest valley."
    )
    chosen = list(LANDSCAPES.items())[2 if config.smoke else 0 :]
    figure, plots = figures.axes(len(chosen), width=3 * len(chosen), height=3.2)
    grid = jnp.linspace(-2.2, 2.2, 801)
    rows, metrics = [], {}
    for plot, (name, J) in zip(plots, chosen, strict=True):
        plot.plot(grid, J(grid), color="#9aa3b2", linewidth=1.4)
        plot.plot(start, J(start), "o", color="#222222", label="start")
        ends = {}
        for index, (way, optimizer) in enumerate(ways.items()):
            descent = fg.descent.minimize(
                lambda theta, J=J: J(theta).sum(),
                start,
                optimizer=optimizer,
                steps=5 if config.smoke else 100,
                key=jax.random.key(config.seed),
            )
            ends[way] = float(J(descent.params)[0])
            plot.plot(
                descent.params,
                J(descent.params),
                "*D"[index],
                markersize=(13, 6)[index],
                color=figures.COLORS[index],
                label=way,
            )
        plot.set(title=name.partition(":")[0], xlabel="θ")
        slope = float(fg.grad(lambda theta, J=J: J(theta).sum())(start)[0])
        marks = [(good if end < 0.05 else bad)(f"{end:.3f}") for end in ends.values()]
        rows.append([name, f"{slope:.3g}", *marks])
        metrics[name] = ends
    plots[0].legend(fontsize=8, loc="upper center")
    plots[0].set_ylabel("J")
    report.figure(
        "landscapes",
        figure,
        caption="The start at θ = −1.8, and where 100 steps end: of gradient descent, and of an "
        "evolution strategy that sees values only.",
    )
    report.table(
        ["J(θ)", "gradient at the start", *(f"J after {way}" for way in ways)],
        rows,
        caption="The lowest J is 0 each time.",
    )
    return metrics
