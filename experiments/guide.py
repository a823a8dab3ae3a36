"""Can a sentence make a picture?

    python -m experiments.guide                                          # six sentences, three ways
    python -m experiments.guide --prompt "a seven, slanted" "a one:-0.5"
    python -m experiments.guide --clip openai/clip-vit-base-patch32 --prompt "a red rose"

Two small towers learn, in a minute, which caption belongs to which picture: digits and shapes that
the experiment draws and describes itself. Then pictures are optimised to match sentences: as
pixels, as Fourier coefficients, and as the latent of a small generator of digits. A prompt may end
with its weight, "a one:-0.5"; a negative one keeps away. `--clip` takes a published CLIP by its
name on the hub or its folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fungrad as fg
from experiments.common import figures
from experiments.common.command import ExperimentError, command_line
from experiments.common.report import Report, console
from experiments.guidance import captions, learning
from fungrad.inputs import Fourier, Latent, Pixels, penalties
from fungrad.inputs.transformations import standard

SENTENCES = (
    "a seven, slanted",
    "a three, upright",
    "a zero, upright",
    "two circles, large",
    "a cross, large",
    "a triangle, large",
)
SUMS = ("a three, upright + a zero, upright:-0.5", "a nine, upright + a zero, upright:0.5")

# What CLIP's images are normalised by, channel by channel.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True)
class Config:
    """Pictures for sentences."""

    prompt: tuple[str, ...] = ()
    """Sentences for one picture, each with or without a weight; unless given, examples."""
    clip: str | None = None
    """A published CLIP: a name on the hub, or a folder; unless given, the towers trained here."""
    steps: int = 250
    """Steps of ascent for each picture."""
    crops: int = 4
    """Random parts of a picture that each step sees."""
    training_steps: int = 1500
    """Of the two towers, and of the generator."""
    size: int = 128
    """Pixels of a side of the pictures for a published CLIP."""
    seed: int = 0
    """Of the drawings, the training and the pictures."""
    smoke: bool = False
    """A run of seconds that only shows that all parts work."""
    out: Path = Path("runs/guide")
    """The output folder."""


def run(config: Config) -> Path:
    """Train or fetch the towers, make the pictures; returns the path of the page.

    Raises:
        ExperimentError: for an unknown word or CLIP, numbers out of range, or an output folder
            that cannot be written.
    """
    for name in ("steps", "training_steps", "size"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"{name}: got {getattr(config, name)}, expected at least 1.")
    wanted = [weighted(prompt) for prompt in config.prompt]
    if config.clip is None:
        for text, _ in wanted:
            captions.tokens(text)
    elif not wanted:
        raise ExperimentError("prompt: a published CLIP needs one, --prompt 'a red rose'.")
    if config.smoke:
        config = replace(config, steps=2, training_steps=2, crops=2)
    report = Report(
        "guide",
        "Pictures for sentences",
        lead="A picture is optimised until a network finds that it matches a sentence: "
        "`fg.inputs.guide`.",
        config=config,
        folder=config.out,
    )
    if config.clip is not None:
        return report.finish({"similarity": published(report, config, wanted)})
    towers, generator, metrics = trained(report, config)
    if wanted:
        sums = {" + ".join(config.prompt): wanted}
        metrics["similarity"] = sheet(report, config, towers, generator, "Your prompt", sums)
    else:
        singles = {text: [(text, 1.0)] for text in SENTENCES[: 1 if config.smoke else None]}
        metrics["similarity"] = sheet(report, config, towers, generator, "Sentences", singles)
        sums = {
            text: [weighted(part) for part in text.split(" + ")]
            for text in SUMS[: 1 if config.smoke else None]
        }
        metrics["weighted"] = sheet(
            report, config, towers, generator, "Weighted and negative prompts", sums
        )
    return report.finish(metrics)


def weighted(prompt: str) -> tuple[str, float]:
    """A sentence and its weight: "a one:-0.5" is ("a one", −0.5)."""
    text, colon, weight = prompt.rpartition(":")
    if not colon:
        return prompt, 1.0
    try:
        return text.strip(), float(weight)
    except ValueError as error:
        raise ExperimentError(
            f"prompt: {weight!r} after the colon of {prompt!r} is no weight; give a number."
        ) from error


# --- the towers that are trained here -------------------------------------------------------------


def trained(report: Report, config: Config) -> tuple[Any, Any, dict[str, Any]]:
    """The parameters of the two towers and of the generator, and how good they are."""
    count = 64 if config.smoke else 4000
    train, test = captions.pairs(count, config.seed), captions.pairs(count // 4, config.seed + 1)
    keys = jax.random.split(jax.random.key(config.seed), 4)
    console.print(f"two towers learn {count:,} pictures with captions")
    towers = learning.train(
        learning.contrast, learning.towers(keys[0]), train, config.training_steps, keys[1]
    )
    console.print("a generator learns the digits")
    images = jnp.asarray(captions.digits()[0][: count * 2, ..., None])
    generator = learning.train(
        learning.evidence, learning.autoencoder(keys[2]), images, config.training_steps, keys[3]
    )
    right = learning.retrieval(towers, test)

    report.section("The two towers")
    report.text(
        f"A network that looks (two convolutions, a linear layer) and one that reads (word "
        f"vectors, two layers) put pictures and captions into one space of {learning.WIDTH} "
        f"numbers. They have seen {count:,} pictures that the experiment drew and described "
        f"itself: digits of scikit-learn, upright or slanted, and shapes, one or two, small or "
        f"large. Of "
        f"{count // 4:,} new pictures, {right:.1%} find their own caption nearest among all; the "
        f"digits among them are of the same {len(images):,}. The generator is a variational "
        f"autoencoder of the digits with {learning.LATENT} latent numbers: it knows no shapes."
    )
    drawn = learning.decode(
        generator, jax.random.normal(jax.random.key(config.seed), (10, learning.LATENT))
    )
    shown = np.concatenate([np.asarray(train.images[:10]), np.asarray(drawn)])[..., 0]
    texts = [caption(row) for row in np.asarray(train.tokens[:10])]
    report.figure(
        "examples",
        figures.contact_sheet(shown, [*texts, *[""] * 10], columns=10, rows=["learnt", "drawn"]),
        caption="Above, pictures with their captions. Below, what the generator makes of random "
        "latents.",
    )
    return towers, generator, {"retrieval": right}


def caption(tokens: np.ndarray) -> str:
    words = [captions.WORDS[token] for token in tokens if token]
    return " ".join(words[:-1]) + f",\n{words[-1]}"


def sheet(
    report: Report,
    config: Config,
    towers: Any,
    generator: Any,
    title: str,
    prompts: dict[str, list[tuple[str, float]]],
) -> dict[str, dict[str, float]]:
    """Each prompt, as pixels, Fourier coefficients and latents."""
    shape = (captions.SIDE, captions.SIDE, 1)
    ways: dict[str, tuple[Any, Any]] = {
        "pixels": (Pixels(shape), 2e-3 * penalties.total_variation),
        "Fourier": (Fourier(shape, decay=1.5), None),
        "latent": (Latent(lambda z: learning.decode(generator, z), (learning.LATENT,)), None),
    }
    pictures: dict[str, list[Any]] = {way: [] for way in ways}
    found: dict[str, dict[str, float]] = {}
    for text, parts in prompts.items():
        console.print(text)
        numbers = jnp.asarray(np.stack([captions.tokens(part) for part, _ in parts]))
        similarity = fg.inputs.prompts(
            lambda x: learning.embed_images(towers, x),
            learning.embed_captions(towers, numbers),
            [weight for _, weight in parts],
            measure=fg.inputs.cosine,
        )
        found[text] = {}
        for way, (image, penalty) in ways.items():
            seen = fg.inputs.guide(
                similarity,
                image=image,
                penalty=penalty,
                crops=config.crops,
                crop_sizes=(0.85, 1.0),
                steps=config.steps,
                key=jax.random.key(config.seed),
            )
            pictures[way].append(seen.image)
            found[text][way] = float(seen.activation)
    values = [f"{found[text][way]:.2f}" for way in ways for text in prompts]
    below = [text.replace(", ", ",\n").replace(" + ", "\n+ ") for text in prompts]
    lines = [
        f"{value}\n{below[index % len(below)]}" if index >= len(values) - len(below) else value
        for index, value in enumerate(values)
    ]
    report.section(title)
    report.figure(
        "-".join(title.lower().split()),
        figures.contact_sheet(
            np.concatenate([np.stack(each) for each in pictures.values()])[..., 0],
            lines,
            columns=len(prompts),
            rows=list(ways),
        ),
        caption="A column for each prompt, and below each picture its similarity, the weighted "
        "mean of cosines. Pixels and Fourier coefficients can please the network with what is no "
        "digit; the generator stays near digits, whatever is asked for: it knows no circles.",
    )
    return found


# --- a published CLIP ---------------------------------------------------------------------------


def published(report: Report, config: Config, prompts: list[tuple[str, float]]) -> float:
    """One picture, as Fourier coefficients, for a CLIP that was trained on captions of the web."""
    similarity = of_clip(str(config.clip), prompts)
    shape = (config.size, config.size, 3)
    console.print(f"a picture for {config.prompt}")
    seen = fg.inputs.guide(
        similarity,
        image=Fourier(shape),
        crops=config.crops,
        transforms=standard,
        steps=config.steps,
        key=jax.random.key(config.seed),
        progress=True,
    )
    report.section("The picture")
    report.figure(
        "picture",
        figures.contact_sheet(
            np.asarray(seen.image)[None], [f"{float(seen.activation):.3f}"], columns=1
        ),
        caption=f"{' + '.join(config.prompt)}, for `{config.clip}`; below it the similarity, −½ of "
        "the squared angle.",
    )
    return float(seen.activation)


def of_clip(name: str, prompts: list[tuple[str, float]]) -> Callable[[jax.Array], jax.Array]:
    """The similarity to weighted sentences that a published CLIP sees."""
    try:
        apply, params = fg.models.load(name)
        tokens = fg.models.tokenizer(name)([text for text, _ in prompts])
    except (OSError, ValueError, ImportError) as error:
        raise ExperimentError(f"clip: {error}") from error
    if apply.config["name"] != "clip":
        raise ExperimentError(f"clip: {name!r} is a {apply.config['name']}, no CLIP.")
    side = apply.config["image"]["image"][0]

    def encode(images: jax.Array) -> jax.Array:
        x = jax.image.resize(images, (len(images), side, side, 3), "linear")
        x = (x - jnp.asarray(MEAN, x.dtype)) / jnp.asarray(DEVIATION, x.dtype)
        return apply(params, x, None).image

    texts = apply(params, None, jnp.asarray(tokens)).text
    return fg.inputs.prompts(encode, texts, [weight for _, weight in prompts])


def main() -> None:
    command_line(run, Config, __doc__)


if __name__ == "__main__":
    main()
