"""Writes what is generated in docs/ again: `make docs`. Tests keep it current.

A generated part of a page stands between `<!-- generated: NAME -->` and `<!-- end -->`; graph.svg
is the picture that the first example of the README draws, drawing_NAME.svg the one that drawing.md
calls NAME.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fungrad as fg
from docs.atlas import atlas
from experiments.lecture_examples import SEEDS
from experiments.lecture_examples import table as seeds

HERE = Path(__file__).parent
README, DRAWINGS = HERE.parent / "README.md", HERE / "drawing.md"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Functions of one array, each with a point where it has no derivative.
KINKS = [
    ("jax.nn.relu(x)", 0.0),
    ("jnp.maximum(x, 0)", 0.0),
    ("jnp.where(x > 0, x, 0)", 0.0),
    ("jnp.where(x > 0, jnp.sqrt(x), 0)", 0.0),
    ("jax.nn.leaky_relu(x)", 0.0),
    ("jax.nn.elu(x)", 0.0),
    ("jax.nn.relu6(x)", [0.0, 6.0]),
    ("jax.nn.hard_tanh(x)", [-1.0, 1.0]),
    ("jnp.clip(x, 0, 1)", [0.0, 1.0]),
    ("jnp.abs(x)", 0.0),
    ("jnp.sign(x)", 0.0),
    ("jnp.round(x)", 0.5),
    ("jnp.sqrt(x)", 0.0),
    ("jnp.linalg.norm(x)", [0.0, 0.0]),
    ("jnp.max(x)", [1.0, 1.0, 0.0]),
    ("jnp.sort(x)[0]", [1.0, 1.0]),
    ("jnp.median(x)", [1.0, 1.0, 0.0]),
    ("fg.layers.step(x)", 0.0),
    ("fg.losses.absolute_error(x, 0.0)", 0.0),
    ("fg.losses.huber(x, 0.0)", 1.0),
    ("fg.losses.hinge(x, 1.0)", 1.0),
    ("fg.losses.multiclass_svm(x, 0)", [1.0, 0.0]),
]


def kinks_of_rules() -> str:
    """Every rule that says what it does at a kink, in the order of the book."""
    rules = [rule for rule in fg.rules if getattr(rule, "kink", "")]
    return table(
        ["primitive", "function and Jacobian", "where there is no derivative"],
        ([f"`{rule.primitive}`", f"`{_on_one_line(rule.jacobian)}`", rule.kink] for rule in rules),
    )


def kinks_of_functions() -> str:
    """Gradients measured at the kinks of the functions above."""
    return table(
        ["function", "at x =", "gradient"],
        ([f"`{text}`", _numbers(x), _numbers(gradient_of(text, x))] for text, x in KINKS),
    )


def gradient_of(text: str, x, grad: Callable = fg.grad):
    """The gradient of the expression's sum, by x."""
    function = eval(f"lambda x: jnp.sum({text})", {"jax": jax, "jnp": jnp, "fg": fg})
    return grad(function)(jnp.asarray(x, jnp.float32))


def slips_of(seed: str) -> str:
    """Every place where a seed errs, with what is right."""
    return table(seeds.HEAD, seeds.remarks(seed))


PARTS = {
    "atlas": lambda: atlas(table),
    "kinks_of_rules": kinks_of_rules,
    "kinks_of_functions": kinks_of_functions,
    **{f"slips_{seed}": functools.partial(slips_of, seed) for seed in SEEDS},
}


def renewed(page: Path) -> str:
    """The text of the page with its generated parts made again."""
    return PART.sub(lambda part: part[1] + PARTS[part[2]]() + part[3], page.read_text("utf-8"))


def pages() -> list[Path]:
    """The pages that have a generated part."""
    return [page for page in sorted(HERE.glob("*.md")) if PART.search(page.read_text("utf-8"))]


def graph() -> str:
    """The SVG of `picture` in the first example of the README."""
    example = PYTHON.search(README.read_text("utf-8"))
    assert example, "the README has no python block"
    return _run([example[1]])["picture"].svg


def drawings() -> dict[Path, str]:
    """The pictures of the page on drawings, by their files."""
    page = DRAWINGS.read_text("utf-8")
    names = re.findall(r"\]\(drawing_(\w+)\.svg\)", page)
    values = _run(PYTHON.findall(page))
    return {HERE / f"drawing_{name}.svg": values[name].svg for name in names}


def _run(examples: list[str]) -> dict:
    """The variables after the examples of a page."""
    namespace: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for example in examples:
            exec(example, namespace)
    return namespace


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_escape(cell) for cell in line) + " |\n" for line in lines)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")


def _on_one_line(text: str) -> str:
    return re.sub(r" {2,}", ",  ", text)


def _numbers(x) -> str:
    shown = [f"{float(entry):.4g}" for entry in np.ravel(np.asarray(x))]
    return shown[0] if np.ndim(x) == 0 else f"[{', '.join(shown)}]"


if __name__ == "__main__":
    for page in pages():
        page.write_text(renewed(page), "utf-8")
        print(f"wrote {page}")
    for file, svg in {HERE / "graph.svg": graph(), **drawings()}.items():
        file.write_text(svg, "utf-8")
        print(f"wrote {file}")
