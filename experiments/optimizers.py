"""What do batch size, momentum and the order of the method change?

    python -m experiments.optimizers

1. Batch size: from one example to all of them, on digits; how noisy the gradient is.
2. Momentum: a heavy ball in a narrow valley, and on digits; it can help or hurt.
3. Zeroth, first and second order: J alone, with its gradient, with its Hessian, on logistic
   regression (breast_cancer).
4. Which functions are differentiable, and which are hard to optimise?
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from experiments.common import data
from experiments.common.command import ExperimentError, command_line
from experiments.common.report import Report
from experiments.optimizer_studies import batch_size, landscapes, momentum, orders
from experiments.optimizer_studies.digits import Config


def run(config: Config) -> Path:
    """All four parts; returns the path of the page."""
    for name in ("epochs", "steps", "hidden"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"{name}: got {getattr(config, name)}, expected at least 1.")
    if config.smoke:
        config = replace(config, epochs=1, steps=5)
    report = Report(
        "optimizers",
        "Batch size, momentum, and the order of the method",
        lead="What the lecture says about gradient descent, tried out. Every gradient and Hessian "
        "is fungrad's, every loop `fg.descent.minimize`.",
        config=config,
        folder=config.out,
    )
    digits = data.load("digits")
    if config.smoke:
        digits = digits.first(128)
    metrics = {
        "batch_size": batch_size.compare(report, config, digits),
        "gradient_noise": batch_size.gradient_noise(report, config, digits),
        "valley": momentum.valley(report),
        "momentum": momentum.compare(report, config, digits),
        "order": orders.compare(report, config),
        "landscapes": landscapes.compare(report, config),
    }
    return report.finish(metrics)


def main() -> None:
    command_line(run, Config, __doc__)


if __name__ == "__main__":
    main()
