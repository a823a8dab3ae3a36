"""Which pixels made the network say so? Six kinds of maps, side by side, and by numbers.

    python -m experiments.attribution
    python -m experiments.attribution --photo my.jpg

1. Maps of a network that reads digits, and of a deeper one that tells photographs apart.
2. Collages of four photographs, where it is known which quarter made the score.
3. Insertion and deletion: what the network says when the pixels of a map go, or come.
4. A sanity check: a map should change when the network's weights are shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg
from experiments.attribution_studies import measures, pictures
from experiments.attribution_studies.methods import METHODS, Apply, Model, maps
from experiments.common import data, figures, learning, photos
from experiments.common.command import ExperimentError, command_line
from experiments.common.report import Report, console

SHOWN = ("cat", "astronaut", "coffee")  # photographs
QUARTERS = ("cat", "coffee", "motorcycle", "flower")  # of the collages
RANDOM = "random order"  # a map of noise: what any method must beat


@dataclass(frozen=True)
class Config:
    """Maps of what made a score, compared."""

    photo: Path | None = None
    """A photograph of yours, explained beside the others."""
    count: int = 60
    """Images that the curves, the collages and the sanity check are averaged over."""
    epochs: int = 20
    """How often the network of digits sees its training digits."""
    steps: int = 400
    """Training steps of the network of photographs."""
    seed: int = 0
    """Of all random numbers."""
    smoke: bool = False
    """A run of seconds that only shows that all parts work."""
    out: Path = Path("runs/attribution")
    """The output folder."""


@dataclass(frozen=True)
class Subject:
    """A trained network and images to explain.

    Attributes:
        name: what it sees.
        apply: (params, x) -> scores.
        params: its parameters.
        x, labels: test images that it reads correctly, as far as there are such.
    """

    name: str
    apply: Apply
    params: Any
    x: jax.Array
    labels: jax.Array

    @property
    def model(self) -> Model:
        return partial(self.apply, self.params)

    def maps(self, key: jax.Array) -> dict[str, jax.Array]:
        return maps(self.apply, self.params, self.x, self.labels, key)


def run(config: Config) -> Path:
    """All four parts; returns the path of the page."""
    for name in ("count", "epochs", "steps"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"{name}: got {getattr(config, name)}, expected at least 1.")
    own = photos.read_photo(config.photo) if config.photo else None
    report = Report(
        "attribution",
        "Which pixels made the score?",
        lead="Every map on this page is one backward pass, or a mean of some, under fungrad's "
        "rules or others: no network was changed for it.",
        config=config,
        folder=config.out,
    )
    key = jax.random.key(config.seed)
    digits, photographs = read_digits(report, config), tell_photos_apart(report, config)
    show_digits(report, digits, key)
    show_photos(report, config, photographs, own, key)
    metrics = {
        "collages": collages(report, config, photographs, key),
        "areas": {each.name: areas(report, each, key) for each in (digits, photographs)},
        "sanity": {each.name: sanity(report, each, key) for each in (digits, photographs)},
    }
    return report.finish(metrics)


# --- the networks ---------------------------------------------------------------------------------


def read_digits(report: Report, config: Config) -> Subject:
    console.print("[bold]A network learns digits[/bold]")
    digits = data.load("digits", images=True)
    digits = digits.first(64) if config.smoke else digits
    initial_key, order_key = jax.random.split(jax.random.key(config.seed))
    apply, params = learning.build("cnn", digits, (), initial_key)
    descent = fg.descent.minimize(
        learning.cost_of(apply, digits),
        params,
        digits.train,
        optimizer=optax.adam(0.002),
        epochs=1 if config.smoke else config.epochs,
        batch_size=32,
        key=order_key,
        checkpoint=report.checkpoint() / "digits",
        progress=True,
    )
    return subject("digits", apply, descent.params, digits.test, config)


def tell_photos_apart(report: Report, config: Config) -> Subject:
    console.print("[bold]A deeper network learns to tell photographs apart[/bold]")
    trained = photos.train(
        steps=2 if config.smoke else config.steps,
        count=20 if config.smoke else 3000,
        seed=config.seed,
        checkpoint=report.checkpoint() / "photos",
    )
    console.print(f"   on parts it has not seen {trained.accuracy:.1%}")
    report.cards({"pieces of photographs told apart": f"{trained.accuracy:.1%}"}, top=True)
    unseen = photos.pieces(4 * config.count, seen=False, seed=config.seed + 2)
    return subject("photographs", photos.logits, trained.params, unseen, config)


def subject(name: str, apply: Any, params: Any, test: data.Examples, config: Config) -> Subject:
    """The network with the first test images that it reads correctly."""
    right = np.asarray(jax.jit(apply)(params, test.x).argmax(axis=1) == test.y)
    chosen = np.argsort(~right, kind="stable")[: 2 if config.smoke else config.count]
    return Subject(name, apply, params, test.x[chosen], test.y[chosen])


# --- 1: maps --------------------------------------------------------------------------------------


def show_digits(report: Report, digits: Subject, key: jax.Array) -> None:
    labels = np.asarray(digits.labels)
    first = np.unique(labels, return_index=True)[1]
    few = Subject("digits", digits.apply, digits.params, digits.x[first], digits.labels[first])
    report.section("Digits")
    report.text(
        "A network of two convolutions reads digits; for each the map of the score of its class. "
        "Saliency, guided and SmoothGrad say how much a pixel matters. The other three add up: "
        "red speaks for the class, blue against it, and together they make the score, or (of "
        "integrated gradients) its difference from that of a grey image."
    )
    report.figure(
        "digits",
        pictures.sheet(few.x, [str(label) for label in labels[first]], few.maps(key), cell=0.95),
        caption="One test digit of each class, and its maps.",
    )


def show_photos(
    report: Report, config: Config, photographs: Subject, own: np.ndarray | None, key: jax.Array
) -> None:
    report.section("Photographs")
    report.text(
        "Six convolutions with ReLU and pooling, then the mean over all places: the network learnt "
        "on pieces of 48 × 48 pixels which of ten photographs they are of, and here sees more than "
        "a piece. It knows these photographs and nothing else."
    )
    side = 2 * photos.SIDE if config.smoke else photos.HEIGHT  # squares: one program serves all
    named = [(name, photos.photo(name)) for name in SHOWN]
    if own is not None:
        named.append(("yours", own))
    found = []
    for _, image in named:
        x = jnp.asarray(image[None, :side, :side])
        label = jax.jit(photographs.model)(x).argmax(axis=1)
        found.append((x, int(label[0]), maps(photographs.apply, photographs.params, x, label, key)))
    report.figure(
        "photographs",
        pictures.sheet(
            jnp.concatenate([x for x, _, _ in found]),
            [
                f"{name}\nseen as\n{photos.NAMES[label]}"
                for (name, _), (_, label, _) in zip(named, found, strict=True)
            ],
            {method: jnp.concatenate([each[method] for *_, each in found]) for method in METHODS},
            cell=1.7,
        ),
        caption="Photographs, the class that the network gives them, and the maps of its score.",
    )


# --- 2: where the answer is known -----------------------------------------------------------------


def collages(
    report: Report, config: Config, photographs: Subject, key: jax.Array
) -> dict[str, float]:
    """The share of each map that lies in the quarter of the class asked for; chance is 1/4."""
    count = 1 if config.smoke else config.count  # as many as photographs: one program
    x, labels, inside = assembled(photographs, count, config.seed)
    found = maps(photographs.apply, photographs.params, x, labels, key)
    shares = {name: measures.share_inside(each, inside) for name, each in found.items()}
    report.section("Where the answer is known")
    report.text(
        f"Four pieces in one image, each of another photograph, and the map of the score of one "
        f"of them: what is positive in it should lie in that quarter. Chance is 25 %; the mean "
        f"over {count} collages of pieces that the network has not seen."
    )
    report.table(
        ["method", "share in the right quarter"],
        [[name, f"{share:.0%}"] for name, share in shares.items()],
        caption="The share of the positive part of a map that lies in the quarter asked for.",
    )
    report.figure(
        "collages",
        pictures.sheet(
            x[:3],
            [photos.NAMES[int(label)] for label in labels[:3]],
            {name: each[:3] for name, each in found.items()},
            cell=1.4,
        ),
        caption="Three collages, the class asked for, and the maps of its score.",
    )
    return shares


def assembled(
    photographs: Subject, count: int, seed: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Collages x[N, 96, 96, 3], the class asked for [N], and where it is [N, 96, 96]."""
    per_photo = 2 * count
    unseen = photos.pieces(per_photo * len(photos.NAMES), seen=False, seed=seed + 3)
    of = {
        name: np.asarray(unseen.x)[photos.NAMES.index(name) :: len(photos.NAMES)]
        for name in QUARTERS
    }
    draw, images, labels, inside = np.random.default_rng(seed), [], [], []
    for index in range(count):
        names = draw.permutation(QUARTERS)
        quarters = [of[name][index] for name in names]
        top, bottom = (np.concatenate(quarters[i : i + 2], axis=1) for i in (0, 2))
        images.append(np.concatenate([top, bottom]))
        asked = index % 4
        labels.append(photos.NAMES.index(names[asked]))
        mask = np.zeros((2, 2), bool)
        mask.flat[asked] = True
        inside.append(np.kron(mask, np.ones((photos.SIDE, photos.SIDE), bool)))
    return jnp.asarray(np.stack(images)), jnp.asarray(labels), jnp.asarray(np.stack(inside))


# --- 3: insertion and deletion --------------------------------------------------------------------


def areas(report: Report, subject: Subject, key: jax.Array) -> dict[str, dict[str, float]]:
    found = {
        **subject.maps(key),
        RANDOM: jax.random.uniform(key, subject.x.shape[:3], subject.x.dtype),
    }
    model = subject.model  # the same for every map, so that it is compiled once
    curves = {
        name: measures.curves(model, subject.x, subject.labels, each)
        for name, each in found.items()
    }
    report.section(f"Insertion and deletion: {subject.name}")
    report.text(
        "The pixels of a good map, taken away from the strongest on (made grey), lower the "
        f"probability of the class soon; put into a grey image, they raise it soon. The mean over "
        f"{len(subject.x)} test images. Where a random order does as well, as on photographs, to "
        f"whose network grey specks are foreign, the curves tell little."
    )
    report.figure(
        f"curves-{subject.name}",
        pictures.comparison(curves),
        caption="The probability of the class against the share of the pixels.",
    )
    each = {name: curve.areas for name, curve in curves.items()}
    report.table(
        ["method", "deletion (low is good)", "insertion (high is good)"],
        [[name, f"{a['deletion']:.3f}", f"{a['insertion']:.3f}"] for name, a in each.items()],
        caption="Areas under these curves.",
    )
    return each


# --- 4: a sanity check ----------------------------------------------------------------------------


def sanity(report: Report, subject: Subject, key: jax.Array) -> dict[str, list[float]]:
    """Rank correlations of each map with that of the network whose last layers are shuffled.

    After [adebayo2018].
    """
    count = min(len(subject.x), 20)
    few = Subject(
        subject.name, subject.apply, subject.params, subject.x[:count], subject.labels[:count]
    )
    original = few.maps(key)
    similar: dict[str, list[float]] = {name: [1.0] for name in METHODS}
    layers = range(1, measures.count_of_layers(few.params) + 1)
    for number in layers:
        shuffled = measures.randomized(few.params, number, key)
        again = Subject(few.name, few.apply, shuffled, few.x, few.labels).maps(key)
        for name, found in again.items():
            similar[name].append(measures.similarity(original[name], found))
    report.section(f"Does a map depend on the weights? {subject.name.capitalize()}")
    report.text(
        "The weights are shuffled, layer by layer from the output on. A map that hardly changes "
        "does not show what the network has learnt, however sharp it looks."
    )
    figure, (plot,) = figures.axes(height=4)
    figures.curves(
        plot,
        similar,
        xlabel="layers shuffled, from the output on",
        ylabel="rank correlation",
        title="Likeness to the map of the trained network",
    )
    plot.set_xticks([0, *layers])
    report.figure(
        f"sanity-{subject.name}",
        figure,
        caption=f"Spearman's correlation of the maps' absolute values, a mean over {count} images.",
    )
    return similar


def main() -> None:
    command_line(run, Config, __doc__)


if __name__ == "__main__":
    main()
