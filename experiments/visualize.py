"""What does a unit of a network like best?

    python -m experiments.visualize                            # a network of photographs
    python -m experiments.visualize --model digits
    python -m experiments.visualize --model my.module:network --where conv3 --unit 7

The networks are trained here, in minutes, on data that come with scikit-learn and scikit-image;
with `--model package.module:function` it is one of yours: the function returns a function of a
batch x[N, H, W, C] in [0, 1] (a flax module, `jax.vmap` of an equinox one), or (apply, params), or
{"model": one of these, "shape": (H, W, C)}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg
from experiments.common import data, figures, networks, photos
from experiments.common.command import ExperimentError, command_line
from experiments.common.report import Report, console
from fungrad.inputs import CPPN, Box, Fourier, Free, MaCo, Pixels, Sphere, objectives, penalties
from fungrad.inputs.transformations import jitter, pad, rotate, scale

Transforms = tuple[Any, ...]


@dataclass(frozen=True)
class Config:
    """The images that a network's units like best."""

    model: str = "photographs"
    """photographs, digits, or package.module:function."""
    where: str | None = None
    """The name or label of a node; unless given, the page shows all layers."""
    unit: int | None = None
    """A channel of that node; unless given, the first ones."""
    channels: int = 8
    """How many channels of each layer are shown."""
    steps: int = 192
    """Steps of ascent for each image."""
    seed: int = 0
    """Of the network's training and of the images."""
    smoke: bool = False
    """A run of seconds that only shows that all parts work."""
    out: Path = Path("runs/visualize")
    """The output folder."""


def run(config: Config) -> Path:
    """Train or fetch the network, make the images; returns the path of the page.

    Raises:
        ExperimentError: for an unknown model or node, numbers out of range, or an output folder
            that cannot be written.
    """
    for name in ("steps", "channels"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"{name}: got {getattr(config, name)}, expected at least 1.")
    if config.smoke:
        config = replace(config, steps=2, channels=2)
    report = Report(
        "visualize",
        f"What the units of a network like best · {config.model}",
        lead="argmax over images x of a unit's value, `fg.inputs.visualize`: gradient ascent on "
        "the input, with the network as it is.",
        config=config,
        folder=config.out,
    )
    network = networks.load(config.model, report, smoke=config.smoke, seed=config.seed)
    report.section("The network")
    report.text(network.about)
    studio = Studio(report, config, network)
    metrics: dict[str, Any] = {}
    if config.where is not None:
        metrics["activations"] = studio.channels([config.where], config.unit)
        return report.finish(metrics)
    metrics["logits"] = studio.logits()
    metrics["activations"] = studio.channels(network.nodes)
    metrics["parameterizations"] = studio.parameterizations()
    metrics["diversity"] = studio.diversity()
    metrics["rescued"] = studio.rescue()
    metrics["exact"] = exact(report, config)
    return report.finish(metrics)


class Studio:
    """The sections of the page, each with its images."""

    def __init__(self, report: Report, config: Config, network: networks.Network):
        self.report, self.config, self.network = report, config, network
        side = min(network.shape[:2])
        self.small = side < 16
        border = max(side // 8, 1)
        # Lucid's transformations for images of 128 pixels, in proportion.
        self.transforms: Transforms = (
            (jitter(1),)
            if self.small
            else (pad(border), jitter(border), scale(0.9, 1.1), rotate(10.0), jitter(border // 2))
        )

    def see(self, where: Any, unit: Any, image: Any = None, **options: Any):
        """`fg.inputs.visualize`, with this page's settings."""
        given = {"transforms": self.transforms, "steps": self.config.steps, **options}
        try:
            return fg.inputs.visualize(
                self.network.model,
                where,
                unit,
                image=self.fourier() if image is None else image,
                key=jax.random.key(self.config.seed),
                progress=True,
                **given,
            )
        except (LookupError, ValueError) as error:
            raise ExperimentError(f"where, unit: {error}") from error

    def fourier(self) -> Fourier:
        return Fourier(self.network.shape)

    def sheet(self, name: str, images: Any, captions: Sequence[str], caption: str, **o: Any):
        images = np.asarray(images)
        images = images[..., 0] if images.shape[-1] == 1 else images
        self.report.figure(name, figures.contact_sheet(images, captions, **o), caption=caption)

    def logits(self) -> list[float]:
        """One image per class."""
        count = 2 if self.config.smoke else min(len(self.network.classes), 20)
        console.print(f"{count} logits")
        ink = 0.25 * (penalties.total_variation + penalties.l2) if self.small else None
        image = Pixels(self.network.shape) if self.small else None
        seen = self.see(None, list(range(count)), image, penalty=ink)
        values = np.asarray(seen.activation)
        names = self.network.classes[:count]
        self.report.section("Logits")
        self.sheet(
            "logits",
            seen.image,
            [f"{name}: {value:.0f}" for name, value in zip(names, values, strict=True)],
            "For each class the image whose logit is largest, and that logit. "
            + (
                "Pixels, with a penalty 0.25 (Σ |xᵢ − xⱼ| + Σ x²) on edges and ink."
                if self.small
                else "Fourier coefficients in uncorrelated colours, each step on an image that is "
                "shifted, scaled and turned at random."
            ),
            columns=min(count, 7 if count > 10 else 10),
        )
        return values.tolist()

    def channels(self, nodes: Sequence[str], unit: int | None = None) -> dict[str, list[float]]:
        """The first channels of each node, of a node's in one compiled batch."""
        images, captions, found = [], [], {}
        for node in nodes:
            units = list(range(self.config.channels)) if unit is None else [unit]
            units = units[: self._channels_of(node)]
            console.print(f"{len(units)} channels of {node}")
            seen = self.see(node, units)
            images.append(seen.image)
            values = np.asarray(seen.activation)
            captions += [f"{c}: {value:.2g}" for c, value in zip(units, values, strict=True)]
            captions += [""] * (self.config.channels - len(units) if unit is None else 0)
            blank = self.config.channels - len(units) if unit is None else 0
            images.append(np.ones((blank, *self.network.shape)))
            found[node] = values.tolist()
        self.report.section("Channels")
        self.sheet(
            "channels",
            np.concatenate(images),
            captions,
            "One image per channel: the channel's number, and its mean over positions in that "
            "image. From the input (top) up.",
            columns=self.config.channels if unit is None else 1,
            rows=list(nodes),
        )
        return found

    def _channels_of(self, node: str) -> int:
        shape = jax.ShapeDtypeStruct((1, *self.network.shape), jnp.float32)
        try:
            _, found = jax.eval_shape(fg.values(self.network.model, node), shape)
        except LookupError as error:
            raise ExperimentError(f"where: {error}") from error
        return list(found.values())[-1].shape[-1]

    def parameterizations(self) -> dict[str, float]:
        """One unit, five parameterizations."""
        node, unit = self.network.nodes[-1], 0
        shape = self.network.shape
        seen = [photos.photo(name) for name in ("astronaut", "coffee", "flower", "cat")]
        seen = [photo.mean(2, keepdims=True) for photo in seen] if shape[2] == 1 else seen
        spectrum = fg.inputs.spectra.magnitudes(seen, shape) if shape[2] in (1, 3) else None
        still = {"transforms": ()}
        tries = {
            "pixels": (Pixels(shape), still),
            "pixels, TV": (Pixels(shape), {"penalty": 3e-4 * penalties.total_variation}),
            "Fourier": (Fourier(shape), {}),
            "MaCo": (MaCo(shape, spectrum), {}),
            "CPPN": (CPPN(shape), {}),
        }
        images, captions, found = [], [], {}
        for name, (image, options) in list(tries.items())[: 2 if self.config.smoke else None]:
            console.print(f"{node}, channel {unit}: {name}")
            seen = self.see(node, unit, image, **options)
            images.append(seen.image)
            found[name] = float(seen.activation)
            captions.append(f"{name}\n{found[name]:.3g}")
        self.report.section("One unit, five parameterizations")
        self.sheet(
            "parameterizations",
            np.stack(images),
            captions,
            f"Channel {unit} of `{node}`, and its value. Bare pixels reach most and show least; "
            "the others ask for smoother ones: a penalty on differences, coefficients scaled by "
            "1/f, free phases with the magnitudes of photographs, a small network of the "
            "coordinates, which prefers large areas.",
            columns=len(images),
        )
        return found

    def diversity(self) -> dict[str, float]:
        """Several images for the same unit, without and with a term that tells them apart."""
        node, count = self.network.nodes[-1], 2 if self.config.smoke else 4
        index = min(2, self._channels_of(node) - 1)
        unit, rows, found = objectives.channel(index), [], {}
        for name, weight in (("alone", 0.0), ("diverse", 1.0)):
            console.print(f"{node}, channel {index}: {name}")
            seen = self.see(node, [unit + weight * objectives.diversity()] * count)
            h = jax.jit(fg.values(self.network.model, node))(seen.input)[1][node]
            found[name] = float(np.mean(h[..., index]))
            rows.append(seen.image)
        self.report.section("Diversity")
        self.sheet(
            "diversity",
            np.concatenate(rows),
            [""] * (2 * count),
            f"{count} images for channel {index} of `{node}`, from different first images: alone "
            f"(mean value {found['alone']:.2g}), and with a term that makes the Gram matrices of a "
            f"batch differ ({found['diverse']:.2g}).",
            columns=count,
            rows=list(found),
        )
        return found

    def rescue(self) -> dict[str, float]:
        """A unit that is off for the first image: with the usual rule, and as it is done here."""
        node = self.network.nodes[-1]
        unit = min(2, self._channels_of(node) - 1)
        image = self.fourier()
        u = image.initial(jax.random.key(self.config.seed), 1)
        model = self.network.model

        def raw(x: jax.Array) -> jax.Array:
            h = fg.values(model, node)(x)[1][node]
            return h[..., unit].mean(axis=tuple(range(1, h.ndim - 1)))

        start = image.images(u)
        off = float(raw(start)[0]) + 0.1

        def shifted(x: jax.Array) -> jax.Array:
            return jax.nn.relu(raw(x) - off)[:, None]

        usual = fg.descent.minimize(
            lambda u: -shifted(image.images(u)).sum(),
            u,
            optimizer=optax.adam(0.05),
            steps=self.config.steps,
        )
        rescued = fg.inputs.visualize(
            shifted,
            None,
            0,
            image=image,
            steps=self.config.steps,
            key=jax.random.key(self.config.seed),
        )
        shown = np.stack([start[0], image.images(usual.params)[0], rescued.image])
        values = {
            name: float(shifted(jnp.asarray(x)[None])[0, 0])
            for name, x in zip(("start", "usual gradient", "rescued"), shown, strict=True)
        }
        self.report.section("A unit that is off")
        self.sheet(
            "rescue",
            shown,
            [f"{name}\n{value:.3g}" for name, value in values.items()],
            f"relu(channel {unit} of `{node}` − {off:.2g}) is 0 at the first image and all around "
            "it, and so is its gradient: ordinary ascent returns the grey first image. "
            "`fg.inputs.visualize` swaps relu's rule while nothing gets through.",
            columns=3,
        )
        return values


# --- exact answers --------------------------------------------------------------------------------


def exact(report: Report, config: Config) -> dict[str, float]:
    """A linear unit's optima are known: w / 2λ, sign w, r w / ‖w‖."""
    digits = data.load("digits")
    x, y = np.asarray(digits.train.x), np.asarray(digits.train.y)
    w = x[y == 3].mean(axis=0) - x[y != 3].mean(axis=0)  # a detector of threes
    w = jnp.asarray(w).reshape(8, 8, 1)

    def unit(x: jax.Array) -> jax.Array:
        return jnp.einsum("nhwc,hwc->n", x, w)[:, None]

    shape = (8, 8, 1)
    cases: dict[str, tuple[Any, Any, jax.Array]] = {
        "w / 2λ": (Free(), 0.5 * penalties.l2, w),
        "sign w": (Box(-1.0, 1.0), None, jnp.sign(w)),
        "w / ‖w‖": (Sphere(1.0), None, w / jnp.linalg.norm(w)),
    }
    images, captions, found = [0.5 + w / (2 * jnp.abs(w).max())], ["w"], {}
    for name, (space, penalty, optimum) in list(cases.items())[: 1 if config.smoke else None]:
        seen = fg.inputs.visualize(
            unit,
            None,
            0,
            image=Pixels(shape, space),
            penalty=penalty,
            steps=2 if config.smoke else 512,
            key=jax.random.key(config.seed),
        )
        product = jnp.vdot(seen.input, optimum)
        found[name] = float(product / jnp.linalg.norm(seen.input) / jnp.linalg.norm(optimum))
        images.append(seen.image)
        captions.append(f"{name}\n{found[name]:.4f}")
    report.section("Where the answer is known")
    report.text(
        "For a linear unit w · x the best image has a closed form: with the penalty λ Σ x² it is "
        "w / 2λ, in the box [−1, 1] it is sign w, on the sphere it is w / ‖w‖. Here w tells "
        "threes from other digits: the difference of their means."
    )
    report.figure(
        "exact",
        figures.contact_sheet(np.stack(images)[..., 0], captions, columns=4),
        caption="w, and what the ascent finds, each with its cosine to the exact answer. White is "
        "negative, black positive, grey 0: a pixel that w leaves out stays where it began.",
    )
    return found


def main() -> None:
    command_line(run, Config, __doc__)


if __name__ == "__main__":
    main()
