"""What does a network see in a photograph, and what if it saw more of it?

    python -m experiments.dream --photo coffee
    python -m experiments.dream --photo holidays.jpg --where stage2
    python -m experiments.dream --model my.module:network --where conv3 --photo cat --guide flower

Deep dream: gradient ascent on the photograph, so that a layer's values grow. The network is
trained here, in minutes, on photographs that come with scikit-learn and scikit-image; `--model`
takes yours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import fungrad as fg
from experiments.common import figures, networks
from experiments.common.command import ExperimentError, command_line
from experiments.common.report import Report, console


@dataclass(frozen=True)
class Config:
    """Deep dream on a photograph, in every layer of a network."""

    model: str = "photographs"
    """photographs, or package.module:function."""
    where: str | None = None
    """The name or label of a node; unless given, every layer of the network."""
    photo: str = "cat"
    """A path, or the name of a photograph: astronaut, cat, coffee, flower, temple, ..."""
    guide: str = "flower"
    """The photograph whose features guide the last dream: a path or a name."""
    octaves: int = 4
    """How many sizes of the photograph."""
    steps: int = 10
    """Steps of ascent in each octave."""
    rate: float = 0.01
    """The mean change of a number in one step; images are in [0, 1]."""
    seed: int = 0
    """Of the network's training and of the shifts."""
    smoke: bool = False
    """A run of seconds that only shows that all parts work."""
    out: Path = Path("runs/dream")
    """The output folder."""


def run(config: Config) -> Path:
    """Train or fetch the network, dream; returns the path of the page.

    Raises:
        ExperimentError: for an unknown model, node or photograph, numbers out of range, or an
            output folder that cannot be written.
    """
    for name in ("octaves", "steps"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"{name}: got {getattr(config, name)}, expected at least 1.")
    if config.model == "digits":
        raise ExperimentError("model: the digits' network sees no photographs; use photographs.")
    if config.smoke:
        config = replace(config, octaves=min(config.octaves, 2), steps=1)
    photo, other = networks.photograph(config.photo), networks.photograph(config.guide)
    if config.smoke:
        photo, other = photo[::6, ::6], other[::6, ::6]
    report = Report(
        "dream",
        f"A network dreams of {Path(config.photo).stem}",
        lead="Gradient ascent on a photograph, `fg.inputs.dream`: whatever a layer sees in it "
        "shall be there more.",
        config=config,
        folder=config.out,
    )
    network = networks.load(config.model, report, smoke=config.smoke, seed=config.seed)
    report.section("The network")
    report.text(network.about)

    nodes = network.nodes if config.where is None else (config.where,)
    dreams, metrics = {}, {}
    for node in nodes:
        console.print(f"dreaming in {node}")
        dreams[node] = dreamt(config, network, node, photo)
        metrics[node] = growth(dreams[node])
    layers_page(report, photo, dreams, metrics)

    node = nodes[-1]
    console.print(f"dreaming in {node} of {config.guide}")
    guided = dreamt(config, network, node, photo, guide=other)
    metrics["guided"] = growth(guided)
    guided_page(report, config, node, photo, other, guided)
    history_page(report, config, dreams)
    return report.finish({"growth": metrics})


def dreamt(config: Config, network: networks.Network, node: str, photo: Any, **options: Any):
    """`fg.inputs.dream`, with this page's settings."""
    try:
        return fg.inputs.dream(
            network.model,
            node,
            photo,
            octaves=config.octaves,
            steps=config.steps,
            rate=config.rate,
            key=jax.random.key(config.seed),
            progress=True,
            **options,
        )
    except (LookupError, ValueError) as error:
        raise ExperimentError(f"where, octaves, rate: {error}") from error


def growth(dream: fg.inputs.Visualization) -> float:
    """By what factor that which is maximised has grown since the first step."""
    return float(dream.activation) / max(float(dream.history[0]), 1e-12)


# --- the page -----------------------------------------------------------------------------------


def layers_page(report: Report, photo: Any, dreams: dict[str, Any], grown: dict[str, float]):
    report.section("Layer by layer")
    report.text(
        "The mean of h² is maximised, h the layer's values, in octaves from a small copy of the "
        "photograph to all of it. Every step is as long as the last, whatever the gradient's "
        "size, and on an image that is shifted at random; detail that an octave adds is carried "
        "to the next, and the photograph's own is put back."
    )
    images = [photo, *(dream.image for dream in dreams.values())]
    captions = ["the photograph", *(f"{node}: × {grown[node]:.1f}" for node in dreams)]
    report.figure(
        "layers",
        pictures(images, captions, columns=3 if len(images) > 4 else 2),
        caption="Below each dream its layer, and by what factor the mean of h² has grown since "
        "the first step. Early layers like edges and colours, later ones textures.",
    )


def guided_page(report: Report, config: Config, node: str, photo: Any, other: Any, dream: Any):
    report.section("Guided by another photograph")
    report.figure(
        "guided",
        pictures(
            [photo, other, dream.image],
            ["the photograph", "the guide", f"{node}, guided"],
            columns=3,
        ),
        caption=f"Now each position's values in `{node}` shall be like those at the position of "
        "the guide that they match best: the mean over p of max over q of h_p · h'_q.",
    )


def history_page(report: Report, config: Config, dreams: dict[str, Any]) -> None:
    figure, (plot,) = figures.axes(height=3.6)
    lines = {node: np.asarray(dream.history) for node, dream in dreams.items()}
    figures.curves(plot, lines, xlabel="step", ylabel="mean of h²", title="Ascent", log=True)
    for octave in range(1, config.octaves):
        plot.axvline(octave * config.steps, color="#c8c8d0", linewidth=1)
    report.section("Ascent")
    report.figure(
        "ascent",
        figure,
        caption="What is maximised, before each step; the lines are where one octave ends and the "
        "next, larger one begins.",
    )


def pictures(images: Any, captions: list[str], *, columns: int) -> Any:
    """Photographs side by side, large enough to look at."""
    rows = -(-len(images) // columns)
    height, width = images[0].shape[:2]
    figure = figures.Figure(figsize=(3.6 * columns, rows * (3.6 * height / width + 0.4)))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for plot in grid:
        plot.set_axis_off()
    for plot, image, caption in zip(grid, images, captions, strict=False):
        plot.imshow(np.asarray(image), interpolation="lanczos")
        plot.set_title(caption, fontsize=11, loc="center")
    return figure


def main() -> None:
    command_line(run, Config, __doc__)


if __name__ == "__main__":
    main()
