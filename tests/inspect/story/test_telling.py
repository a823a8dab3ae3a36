"""Gradients of stories against JAX's, and what they look like."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad.inspect.story import latex, numerals

X = jnp.array([0.5, -1.0, 2.0])


@jax.custom_vjp
def tripled(x):
    return x


tripled.defvjp(lambda x: (x, None), lambda _, g: (3.0 * g,))


def loops(w, x):
    def step(h, _):
        return jnp.tanh(w * h), jnp.sum(h)

    h, sums = jax.lax.scan(step, x, None, length=40)
    z = jax.lax.cond(h[0] > 0, jnp.sin, jnp.cos, tripled(h))
    k = jax.checkpoint(lambda z: jnp.sort(z) * z)(z)
    return jnp.sum(k) + jnp.mean(sums)


def complex_numbers(x):
    z = jnp.exp(jax.lax.complex(0.0 * x, x))
    return jnp.sum(jnp.real(z * z))


def keys(key, x, labels):
    kept = jax.random.bernoulli(key, 0.5, x.shape)
    return jnp.sum(jnp.where(kept, x, 0.0)[labels])


def half(x):
    return jnp.sum(jax.nn.softmax(x) * x)


CASES = [
    (loops, (0.9, X)),
    (complex_numbers, (X,)),
    (keys, (jax.random.key(1), X, jnp.array([0, 2]))),
    (half, (X.astype(jnp.bfloat16),)),
    (lambda x, unused: jnp.sum(x), (X, 2.0)),
    (lambda x: x, (2.0,)),
    (lambda x: 0.0 * jnp.zeros(()), (2.0,)),
]


@pytest.mark.parametrize(("fun", "args"), CASES, ids=range(len(CASES)))
def test_gradients_are_those_of_jax(fun, args):
    story = fg.story(fun, eta=0.5)(*args)
    floats = [i for i, x in enumerate(args) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    expected = jax.grad(fun, floats)(*args)
    for step, i, g in zip(story.updates, floats, expected, strict=True):
        np.testing.assert_allclose(
            step.gradient, g, rtol=1e-10 if g.dtype != jnp.bfloat16 else 2e-2
        )
        updated = np.asarray(args[i], float) + 0.5 * step.gradient.astype(float)
        np.testing.assert_allclose(
            step.value.astype(float), updated, rtol=8 * jnp.finfo(g.dtype).eps
        )
    assert all(text for text in (str(story), story.markdown, story.latex, story.html))


def test_what_is_large_is_told_in_short():
    story = fg.story(loops)(0.9, X)
    assert story.forward[0].formula == "x1, x2 = scan(w, x)"
    assert "40 numbers from" in str(story)
    assert story["x"].jacobian is None


def test_a_fork_is_the_sum_of_its_uses():
    story = fg.story(lambda w: (w * 3.0) * jnp.sin(w))(0.7)
    step = story["w"]
    assert step.formula == "∂J/∂w = ∂J/∂x2 · (cos w) + ∂J/∂x1 · 3"
    total = sum(part.value for part in step.contributions)
    np.testing.assert_allclose(total, step.value, rtol=1e-12)
    assert "    = 1.606 + 1.933\n    = 3.539" in str(story)


def test_a_story_answers():
    story = fg.story(lambda W, x: jnp.sum(W @ x))(jnp.ones((2, 3)), X)
    assert story["W"].shape == (3, 2)
    assert story["W"].gradient.shape == (2, 3)
    assert set(story.gradients) == {"W", "x"}
    assert repr(story) == "Story of the function: J = 3, 4 steps"
    assert story.forward[0].line > 0
    assert story.forward[0].file == "test_telling.py"
    with pytest.raises(
        LookupError, match=r"no gradient of 'V' in the story; there are \['J', 'x1'"
    ):
        story["V"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fg.story(3), "fun must be a function, got 3"),
        (lambda: fg.story(jnp.sin, eta="x"), "eta must be a number, such as -0.1, or None"),
        (lambda: fg.story(jnp.sin)(X), r"the function returns float64\[3\]; reduce it"),
        (lambda: fg.story(jnp.argmax)(X), r"the function returns int64\[\]"),
        (lambda: jax.jit(lambda x: fg.story(jnp.sin)(x).value)(1.0), "story shows values"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(TypeError, match=message):
        call()


# ---- renderings ---------------------------------------------------------------------------------


def test_latex_of_every_mark():
    assert latex.tex("∂J/∂theta[0] = ∂J/∂h1 ⊙ (2 W0)ᵀ") == (
        r"\frac{\partial J}{\partial \theta [0]} = "
        r"\frac{\partial J}{\partial h_{1}} \odot  (2 W_{0})^\top "
    )
    assert latex.tex("σ(x2) − loss²") == r"\sigma (x_{2}) - \operatorname{loss}^2"


def test_markdown_and_html():
    story = fg.story(lambda W, x: jnp.sum(jnp.tanh(W @ x)), eta=-0.5)(jnp.ones((2, 3)), X)
    assert story._repr_markdown_() == story.markdown
    assert story._repr_html_() == story.html
    assert r"\frac{\partial J}{\partial W} = x \cdot  \frac{\partial J}{\partial x_{1}}" in (
        story.markdown
    )
    assert story.markdown.count("$$") % 2 == 0
    assert r"\[ x_{1} = W x" in story.latex
    assert story.html.count("<table") == story.html.count("</table>")
    assert "<td>∂J/∂x1 = ∂J/∂x2 · diag(1 − x2²)</td>" in story.html


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.array([[1.0, -3.0], [0.25, 1e-7]]), "(1, -3; 0.25, 1e-07)"),
        (np.array(-0.18694481), "-0.1869"),
        (np.zeros((2, 2, 2)), "(0, 0; 0, 0 | 0, 0; 0, 0)"),
        (np.array([np.nan, np.inf]), "(nan, inf)"),
        (np.zeros((0, 3)), "()"),
        (np.arange(30.0), "30 numbers from 0 to 29, norm 92.49"),
        (jax.random.key(0), "key<fry>"),
    ],
)
def test_numbers(x, text):
    assert numerals.array(x) == text
