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
    """E ‖g_B − g‖ / ‖g‖ and E cos(g_B, g) of the gradients g_B of random batches of B examples."""
    apply, params = network(config, digits)
    cost = learning.cost_of(apply, digits)

    def flat_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
        gradient = fg.grad(cost)(params, data.Examples(x[None], y[None]))
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])

    # The gradient of a batch is the mean of its examples' gradients: [examples × parameters].
    each = np.asarray(jax.jit(jax.vmap(flat_gradient))(*digits.train))
    whole, count = each.mean(axis=0), len(each)
    sizes = [2**power for power in range(11) if 2**power <= count]
    draws, random = 8 if config.smoke else 64, np.random.default_rng(config.seed)
    errors, cosines = [], []
    for size in sizes:
        rows = [random.choice(count, size, replace=False) for _ in range(draws)]
        batches = np.stack([each[chosen].mean(axis=0) for chosen in rows])
        norm, norms = np.linalg.norm(whole), np.linalg.norm(batches, axis=1)
        errors.append(float(np.linalg.norm(batches - whole, axis=1).mean() / norm))
        cosines.append(float((batches @ whole / (norms * norm)).mean()))

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
