"""Layer-wise relevance propagation: rulebooks under which a gradient is a relevance [bach2015].

The cotangent is the relevance of the output, the gradient that of the input:

    out, pullback = fg.vjp(model, x, rules=fg.rulebooks.lrp.epsilon(1e-6))
    (relevance,) = pullback(relevance_of_the_output)

Each function makes a book for layers z = W x + b, where x alone is differentiated; formulas.py has
the rules. What is no layer has one rule in all books (structure.py). See docs/relevance.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fungrad.graph import Selector
from fungrad.rulebook import Rulebook
from fungrad.rulebooks.lrp import formulas, structure
from fungrad.rulebooks.lrp.choosing import Key, Relevance
from fungrad.rulebooks.lrp.formulas import STABILIZER, Bound, LayerRule
from fungrad.rules import default

__all__ = [
    "alpha_beta",
    "composite",
    "epsilon",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
    "flat",
    "gamma",
    "wsquare",
    "zbox",
    "zero",
    "zplus",
]

_CONVOLUTION = "conv_general_dilated"


def _of(rule: LayerRule, stabilizer: float = STABILIZER) -> Rulebook:
    placement = Relevance(rule, stabilizer=stabilizer)
    return default.replace(structure.rules(stabilizer)).with_placement(placement)


# --- One rule for all layers --------------------------------------------------------------------


def zero() -> Rulebook:
    """R ↦ x ⊙ Wᵀ(R / z), 0 where z is 0  [bach2015].

    Without biases no relevance is lost, in sums neither.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> W, x = jnp.array([[1.0, 2.0], [3.0, -1.0]]), jnp.array([2.0, 1.0])
    >>> out, pullback = fg.vjp(lambda x: W @ x, x, rules=fg.rulebooks.lrp.zero())
    >>> pullback(jnp.array([4.0, 0.0]))[0].tolist()
    [2.0, 2.0]
    """
    return _of(formulas.Epsilon(0.0), 0.0)


def epsilon(epsilon: float = 1e-6) -> Rulebook:
    """R ↦ x ⊙ Wᵀ(R / (z + ε sgn z))  [bach2015].

    Raises:
        ValueError: ε is negative.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> book = fg.rulebooks.lrp.epsilon(1.0)  # of z = 2 + 1 a quarter is lost to ε
    >>> W, x = jnp.array([1.0, 1.0]), jnp.array([2.0, 1.0])
    >>> out, pullback = fg.vjp(lambda x: W @ x, x, rules=book)
    >>> pullback(4.0)[0].tolist()
    [2.0, 1.0]
    """
    return _of(formulas.Epsilon(_not_negative("epsilon", epsilon)))


def gamma(gamma: float = 0.25) -> Rulebook:
    """R ↦ x ⊙ W'ᵀ(R / (W' x + b')), W' = W + γ W⁺, b' = b + γ b⁺, for x ≥ 0  [montavon2019].

    For x of any sign: the products W_ji x_i, and b, that have the sign of z count 1 + γ times.

    Raises:
        ValueError: γ is negative.
    """
    return _of(formulas.Gamma(_not_negative("gamma", gamma)))


def alpha_beta(alpha: float = 2.0, beta: float = 1.0) -> Rulebook:
    """R ↦ α times the share among positive, less β times that among negative parts  [bach2015].

    Raises:
        ValueError: α or β is negative, or α − β is not 1.
    """
    alpha, beta = _not_negative("alpha", alpha), _not_negative("beta", beta)
    if abs(alpha - beta - 1) > 1e-9:
        raise ValueError(
            f"alpha - beta must be 1, or relevance would not be conserved; got {alpha} - {beta}"
        )
    return _of(formulas.AlphaBeta(alpha, beta))


def zplus() -> Rulebook:
    """R ↦ the share among positive products W_ji x_i, and b⁺: α = 1, β = 0  [montavon2017]."""
    return alpha_beta(1.0, 0.0)


def wsquare() -> Rulebook:
    """R ↦ W²ᵀ(R / (W² 1 + b²)), whatever x is: for inputs without bounds  [montavon2017]."""
    return _of(formulas.WSquare())


def flat() -> Rulebook:
    """R ↦ evenly to all entries that z sees  [lapuschkin2019]."""
    return _of(formulas.Flat())


def zbox(low: Any, high: Any) -> Rulebook:
    """R ↦ the share among W_ji x_i − W⁺_ji l_i − W⁻_ji h_i, for inputs l ≤ x ≤ h  [montavon2017].

    It is meant for the first layer: see `composite` and `epsilon_gamma_box`.

    Args:
        low, high: the least and the greatest input, numbers or arrays that broadcast to x.

    Raises:
        ValueError: a bound is not finite, or low exceeds high.
        TypeError: a bound is a tracer: it is part of the book.
    """
    return _of(_box(low, high))


def _box(low: Any, high: Any) -> formulas.ZBox:
    box = formulas.ZBox(Bound.of("low", low), Bound.of("high", high))
    if (box.low.array > box.high.array).any():
        raise ValueError(f"low must not exceed high, got low={low!r}, high={high!r}")
    return box


def _not_negative(name: str, value: float) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number that is not negative, got {value!r}")
    return float(value)


# --- Other rules for other layers ---------------------------------------------------------------


def composite(books: Mapping[Key, Rulebook], usual: Rulebook | None = None) -> Rulebook:
    """A book with other rules at other layers.

    Args:
        books: for each key a book of this module, whose rule counts at the layers of that key:

            - an integer, or a range of them: their depth, in program order from 0; negative from
              the end;
            - a selector, made by `fungrad.at`: it selects a layer by its product, the matrix
              product or convolution;
            - "dot_general" or "conv_general_dilated": their kind.

            Depths count before selectors, selectors before kinds. Of selectors the narrower counts,
            as in `fungrad.rules.replace`, of depths the later.
        usual: the book for all other layers; `None` is `epsilon()`.

    Raises:
        TypeError: a key, or a book, is of another kind.
        LookupError: when a function is differentiated in which a selector matches no node.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> lrp = fg.rulebooks.lrp
    >>> book = lrp.composite({0: lrp.flat(), fg.at(scope="head"): lrp.zero()}, lrp.gamma())
    """
    usual = epsilon() if usual is None else usual
    rows = []
    for key, book in books.items():
        if isinstance(key, bool) or not isinstance(key, Selector | str | int | range):
            raise TypeError(
                "books: a key is a depth (an integer or a range), a selector made by at(...), "
                f"'dot_general' or 'conv_general_dilated', got {key!r}"
            )
        if isinstance(key, str) and key not in ("dot_general", _CONVOLUTION):
            raise TypeError(
                f"books: {key!r} is no kind of layer; the kinds are 'dot_general' and "
                "'conv_general_dilated'. To select by a name, write at(name=...)"
            )
        rows.append((key, _placement(f"books[{key!r}]", book)))
    placement = _placement("usual", usual)
    chosen = (*placement.chosen, *rows)
    return usual.with_placement(replace(placement, chosen=chosen))


def _placement(name: str, book: Any) -> Relevance:
    placement = getattr(book, "placement", None)
    if not isinstance(placement, Relevance):
        raise TypeError(f"{name} must be a book of fungrad.rulebooks.lrp, got {book!r}")
    return placement


def epsilon_plus() -> Rulebook:
    """z-plus in convolutions, epsilon elsewhere: `EpsilonPlus` of zennit."""
    return composite({_CONVOLUTION: zplus()})


def epsilon_plus_flat() -> Rulebook:
    """Flat in the first layer, then as `epsilon_plus`: `EpsilonPlusFlat` of zennit."""
    return composite({_CONVOLUTION: zplus(), 0: flat()})


def epsilon_alpha2_beta1() -> Rulebook:
    """alpha_beta(2, 1) in convolutions, epsilon elsewhere: `EpsilonAlpha2Beta1` of zennit."""
    return composite({_CONVOLUTION: alpha_beta(2, 1)})


def epsilon_alpha2_beta1_flat() -> Rulebook:
    """Flat in the first layer, then as `epsilon_alpha2_beta1`: `...Flat` of zennit."""
    return composite({_CONVOLUTION: alpha_beta(2, 1), 0: flat()})


def epsilon_gamma_box(low: Any, high: Any, gamma: float = 0.25) -> Rulebook:
    """z-box in the first layer, gamma in convolutions, epsilon elsewhere: `EpsilonGammaBox`.

    Args:
        low, high: as for `zbox`.
        gamma: as for the function `gamma`.
    """
    return composite(
        {_CONVOLUTION: _of(formulas.Gamma(_not_negative("gamma", gamma))), 0: zbox(low, high)}
    )
