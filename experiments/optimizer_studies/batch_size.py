"""Batch size: passes over the data against updates, and how noisy the gradient is."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg
from experiments.common import data, figures, learning
from experiments.common.report import Report, console
from experiments.optimizer_studies.digits import Config, descend, network


def compare(report: Report, config: Config, digits: data.DataSet) -> dict[str, Any]:
    count = len(digits.train.y)
    sizes = (8, count) if config.smoke else (1, 8, 64, count)
    checkpoints = report.checkpoint()
    costs, tests, rows = {}, {}, []
    for size in sizes:
        console.print(f"[bold]batch size {size}[/bold]")
        began = time.perf_counter()
        cost, test = descend(
            config, digits, optax.sgd(config.learning_rate), size, checkpoints / f"batch-{size}"
        )
        seconds = time.perf_counter() - began
        label = f"{size} (all)" if size == count else str(size)
        costs[label], tests[label] = cost, test["accuracy"]
        steps = config.epochs * (count // size)
        rows.append([label, steps, float(cost[-1]), f"{test['accuracy']:.1%}", f"{seconds:.1f} s"])

    report.section("Batch size")
    report.text(
        f"Stochastic gradient descent computes the gradient on a batch of the examples. The same "
        f"network (64-{config.hidden}-10), the same η = {config.learning_rate:g}, "
        f"{config.epochs} epochs: with one example per step θ changes {count} times in an epoch, "
        f"with all of them once."
    )
    figure, (by_epoch, by_step) = figures.axes(2, width=11)
    epochs = np.arange(1, config.epochs + 1)
    figures.curves(
        by_epoch,
        {label: (epochs, cost) for label, cost in costs.items()},
        xlabel="epoch",
        ylabel="cost",
        title="Cost against passes over the data",
        log=True,
    )
    figures.curves(
        by_step,
        {
            label: (epochs * (count // size), cost)
            for size, (label, cost) in zip(sizes, costs.items(), strict=True)
        },
        xlabel="steps",
        ylabel="cost",
        title="Cost against updates",
        log=True,
    )
    by_step.set_xscale("log")
    report.figure(
        "batch-size",
        figure,
        caption="The mean cost of the mini-batches of each epoch, by batch size. Small batches "
        "make more updates of a pass over the data, and noisier ones: if η is too large for the "
        "noise, the cost rises again.",
    )
    report.table(
        ["batch size", "updates", "cost in the last epoch", "test accuracy", "time"],
        rows,
        caption="The time includes compilation.",
    )
    return {"cost": costs, "test_accuracy": tests}


def gradient_noise(report: Report, config: Config, digits: data.DataSet) -> dict[str, Any]:
    """E ‖g_B − g‖ / ‖g‖ and E cos(g_B, g) of the gradient g_B of random batches of B examples."""
    apply, params = network(config, digits)
    cost = learning.cost_of(apply, digits)
    x, y = digits.train
    draws = 8 if config.smoke else 64

    def flat(gradient: Any) -> jax.Array:
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])

    @jax.jit
    def gradient(rows: jax.Array) -> jax.Array:
        return flat(fg.grad(cost)(params, data.Examples(x[rows], y[rows])))

    count = len(y)
    whole = gradient(jnp.arange(count))
    sizes = [2**power for power in range(11) if 2**power <= count]
    errors, cosines = [], []
    for size in sizes:
        keys = jax.random.split(jax.random.key(config.seed), draws)
        rows = jnp.stack([jax.random.permutation(key, count)[:size] for key in keys])
        each = jax.lax.map(gradient, rows)
        norms = jnp.linalg.norm(each, axis=1) * jnp.linalg.norm(whole)
        errors.append(
            float((jnp.linalg.norm(each - whole, axis=1)).mean() / jnp.linalg.norm(whole))
        )
        cosines.append(float((each @ whole / norms).mean()))

    figure, (error_plot, cosine_plot) = figures.axes(2, width=11, height=3.8)
    law = errors[0] / np.sqrt(np.array(sizes) / sizes[0])
    figures.curves(
        error_plot,
        {"‖g_B − g‖ / ‖g‖": (sizes, errors), "∝ 1 / √B": (sizes, law)},
        xlabel="batch size B",
        ylabel="relative error",
        title="Noise of the gradient",
        log=True,
    )
    figures.curves(
        cosine_plot,
        {"": (sizes, cosines)},
        xlabel="batch size B",
        ylabel="cosine of the angle",
        title="Direction: g_B against g",
    )
    cosine_plot.set_ylim(0, 1.02)
    for plot in (error_plot, cosine_plot):
        plot.set_xscale("log", base=2)
    report.figure(
        "gradient-noise",
        figure,
        caption=f"The gradient g_B of a batch against the gradient g of all {count} examples, at "
        f"the initial parameters; means of {draws} random batches. Batches are drawn without "
        f"replacement, so the noise falls below 1/√B when a batch is a good part of the data.",
    )
    return {"sizes": sizes, "relative_error": errors, "cosine": cosines}
