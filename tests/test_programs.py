"""Random programs have JAX's gradients: first and second order, and under vmap.

`PROGRAMS=2000 pytest tests/test_programs.py` tries 2,000 of them, other ones at each run.
"""

import os

import hypothesis
import jax
import numpy as np
from jax import numpy as jnp

import fungrad as fg
from tests.programs import as_program, programs, shapes
from tests.ways import QUICK, pulled, save_nothing, twice

COUNT = int(os.environ.get("PROGRAMS", "0"))


def difference(ours, theirs):
    """The largest one, relative to the largest entry; no entry counts where JAX has no number."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    found = []
    for x, y in pairs:
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        counts = jnp.isfinite(y)
        size = jnp.max(jnp.where(counts, jnp.abs(y), 0), initial=1.0)
        apart = jnp.where(counts, jnp.abs(x - y), 0.0)
        found.append(jnp.max(jnp.where(jnp.isnan(apart), jnp.inf, apart), initial=0.0) / size)
    return jnp.max(jnp.stack(found))


def comparisons(f):
    """(ours, theirs) of each question that JAX can answer."""

    def batched(gradients):
        return lambda inputs, b: jax.vmap(gradients, (0, None))(
            jax.tree.map(lambda x: jnp.stack([x, x[::-1] if x.ndim else 0.5 * x]), inputs), b
        )

    first, second = pulled(jax.vjp, f), twice(jax.vjp, f)
    return {
        "saving nothing, of jit": (pulled(save_nothing, jax.jit(f)), first),
        "twice": (twice(fg.vjp, f), second),
        "under vmap": (batched(pulled(fg.vjp, f)), batched(first)),
    }


def arguments(shape, other):
    """Arrays of these shapes, and a tree of them with an integer and one that is not used."""
    draw = np.random.default_rng(0)
    a, b = (jnp.asarray(draw.uniform(-1.2, 1.2, s)) for s in (shape, other))
    return {"a": [a, jnp.ones(2)], "n": jnp.arange(2), "nothing": None}, b


def check(instructions, shape, other):
    """Compare one program's gradients, in every way in which JAX itself has an answer."""
    questions = comparisons(as_program(instructions))

    def differences(*given):
        found = {}
        for name, (ours, theirs) in questions.items():
            try:
                expected = theirs(*given)
            except Exception:  # no forward mode for custom_vjp, for one
                continue
            found[name] = difference(ours(*given), expected)
        return found

    given = arguments(shape, other)
    found = jax.jit(differences, compiler_options=QUICK)(*given)
    wrong = {name: float(e) for name, e in found.items() if not e <= 1e-6}
    assert not wrong, f"{instructions} at {shape}, {other}: {wrong}"


@hypothesis.settings(
    max_examples=COUNT or 16, derandomize=not COUNT, deadline=None, database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)  # fmt: skip
@hypothesis.given(programs, shapes, shapes)
def test_random_programs(instructions, shape, other):
    check(instructions, shape, other)
