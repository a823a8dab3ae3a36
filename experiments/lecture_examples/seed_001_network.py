"""Seed 001, graph 12: a network with two inputs, three hidden units and one output, in numbers.

The seed keeps the hidden units in the rows of Z and the observations in its columns, prepends a
column of ones, and multiplies by v: so it mixes observations where it should mix units. Almost
every number after the forward pass of the hidden layer inherits this.
"""

import jax.numpy as jnp
import numpy as np

from experiments.lecture_examples.record import example, formula, shown, sigmoid, words
from fungrad import layers, losses

X = ((1.0, 1.0, 2.0), (1.0, 1.0, 3.0), (1.0, 2.0, 2.0))  # a leading 1 for the bias, then x
W = ((0.01, 0.02, 0.03), (0.03, 0.01, 0.02), (0.02, 0.03, 0.01))  # one row per hidden unit
v = (0.01, 0.02, 0.03, 0.04)  # the bias, then one entry per hidden unit
y = (8.0, 11.0, 10.0)

TRANSPOSED = "the rows of Z are units; ŷ needs one row per observation, Zᵀ"


def with_ones(Z):
    return jnp.concatenate([jnp.ones((len(Z), 1)), Z], axis=1)


@example("001", "464-516, 604-616", "Graph 12: the 3-3-1 network forward")
def forward(ad):
    """`A = X* Wᵀ`, `Z = σ(A)`, `ŷ = Z* v` with a leading 1 in every row of X* and Z*, and
    `L = Σ (ŷ − y)²`. Rows are observations, columns units; the seed's Z is this Z transposed.
    """
    A = layers.linear(jnp.array(X), jnp.array(W))
    Z = layers.sigmoid(A)
    guess = layers.linear(with_ones(Z), jnp.array(v)[None])[:, 0]
    loss = losses.squared_error(guess, jnp.array(y))

    yield shown("498", "X* W₁", "0.09 0.12 0.11", A[:, 0])
    yield shown("500", "X* W₂", "0.08 0.10 0.09", A[:, 1])
    yield shown("502", "X* W₃", "0.07 0.08 0.10", A[:, 2])
    sums = np.array(
        [0.01 + 2 * 0.02 + 3 * 0.03, 0.03 + 2 * 0.01 + 3 * 0.02, 0.02 + 2 * 0.03 + 3 * 0.01]
    )
    yield formula("496, 500, 502", "third entries, written out", "… + 3 · w₃", sums, A[2]).slip(
        "… + 2 · w₃", "the third row of X* is (1, 2, 2); the results are right"
    )
    yield shown("504", "Z₁ = σ(X* W₁)", "0.52248 0.52996 0.52747", Z[:, 0])
    yield shown("504", "Z₂ = σ(X* W₂)", "0.51999 0.52498 0.52248", Z[:, 1])
    yield shown("504", "the arguments of Z₃", "0.10 0.08 0.09", A[:, 2]).slip(
        "(0.07, 0.08, 0.10)", "502 has them; the values that follow are right"
    )
    yield shown("504", "Z₃ = σ(X* W₃)", "0.51749 0.51999 0.52498", Z[:, 2])
    rows = "0.52248 0.52996 0.52747; 0.51998 0.52497 0.52248; 0.52497 0.51998 0.52497"
    yield shown("504", "Z, units in rows", rows, Z.T).slip(
        "third row (0.51749, 0.51999, 0.52498)",
        "the third row follows the wrong arguments of Z₃; 0.51998 and 0.52497 are cut, not rounded",
    )
    rows = "1 0.52248 0.52996 0.52747; 1 0.51999 0.52498 0.52248; 1 0.51749 0.51999 0.52498"
    by_v = ad.jacobian(lambda v: with_ones(Z) @ v)(np.array(v))
    yield shown("508, 546", "Z* = ∂ŷ/∂v", rows, by_v).slip(
        "rows (1, 0.52248, 0.51999, 0.51749), (1, 0.52996, 0.52498, 0.51999), "
        "(1, 0.52747, 0.52248, 0.52498)",
        TRANSPOSED,
    )
    yield shown("508", "ŷ = Z* v", "0.0574 0.0570 0.0569", guess).slip(
        "(0.0567, 0.0571, 0.0572)", TRANSPOSED
    )
    yield shown("512, 614", "ŷ₃ in the loss", "0.0571", guess[2]).slip(
        "0.0572", "not the seed's own 0.0569 either: it comes from the wrong third row of Z"
    )
    yield words("510, 512", "L", "L₂(y, y); a column of two losses").damage(
        "L₂(ŷ, y); three losses", "512 repeats the formula with all three"
    )
    yield words("512", "the third loss", "L₂(ŷ₁, y₃)").slip("L₂(ŷ₃, y₃)", "the observation is 3")
    yield shown("512", "L = (ŷ − y)²", "63.0841 119.7482 98.9643", loss).slip(
        "(63.0952, 119.7460, 98.8588)", "ŷ of 508; and 98.9643 is a misprint of its own 98.8643"
    )
    yield shown("608", "W X*ᵀ", "0.09 0.12 0.11; 0.08 0.10 0.09; 0.07 0.08 0.10", A.T)
    rows = "0.522 0.530 0.527; 0.520 0.525 0.522; 0.525 0.520 0.525"
    yield shown("610", "Z, units in rows", rows, Z.T).slip(
        "third row (0.517, 0.520, 0.525)", "the third row of Z at 504 again"
    )
    yield shown("614", "ŷ = Z* v", "0.0574 0.0570 0.0571", guess).slip(
        "(0.0567, 0.0571, 0.0572)", f"{TRANSPOSED}, and the third row of 610"
    )
    yield shown("616", "Σ (ŷ − y)²", "287.694", jnp.sum(loss)).slip(
        "281.700",
        "called ŷ there, but it is L; a misprint of the seed's own 281.694, from the wrong ŷ",
    )
    yield words("630", "logistic(W X*ᵀ)", "Z*").slip("Z", "the star means with ones prepended")


@example("001", "518-573, 618-643", "Graph 12: the 3-3-1 network backward")
def backward(ad):
    """`∂L/∂ŷ = 2(ŷ − y)` is a row with one entry per observation i; then `∂L/∂v = ∂L/∂ŷ Z*` and
    `∂L/∂W = δᵀ X*` with `δᵢⱼ = ∂L/∂ŷᵢ vⱼ σ′(Aᵢⱼ)`.
    """
    inputs, weights, out, target = (np.array(value) for value in (X, W, v, y))
    A = inputs @ weights.T
    Z = sigmoid(A)

    def loss_of(guess):
        return jnp.sum(losses.squared_error(guess, target))

    def guess_of(Z, out):
        return with_ones(Z) @ out

    def loss(weights, out):
        return loss_of(guess_of(layers.sigmoid(layers.linear(inputs, weights)), out))

    by_W, by_v = ad.grad(loss, (0, 1))(weights, out)
    yield shown(
        "532", "∂L/∂ŷ = 2(ŷ − y)", "15.885 21.886 19.886", ad.grad(loss_of)(guess_of(Z, out))
    ).slip("(−15.887, −21.886, −19.886)", "ŷ − y is negative; y − ŷ was put in, with the ŷ of 508")
    yield words("624", "DL/Dŷ", "scalar").slip(
        "a row [1 × 3]", "one entry per observation; L is the scalar"
    )
    first = np.array([1, *Z[0]])
    yield shown("540", "∂ŷᵢ/∂zᵢ* = vᵀ", "0.01 0.02 0.03 0.04", ad.grad(jnp.dot)(first, out))
    slope = np.diagonal(ad.jacobian(layers.sigmoid)(A.T.ravel())).reshape(3, 3)
    yield formula("542, 632", "σ′(W X*ᵀ)", "W X*ᵀ (1 − W X*ᵀ)", A.T * (1 - A.T), slope).slip(
        "Z (1 − Z)",
        "the slope is written with what is squashed, Z = σ(W X*ᵀ); the numbers are right",
    )
    rows = "0.2495 0.2491 0.2492; 0.2496 0.2494 0.2495; 0.2497 0.2496 0.2494"
    yield shown("542", "σ′(W X*ᵀ)", rows, slope)
    by_weights = ad.jacobian(lambda weights: weights @ inputs.T)(weights)
    yield formula("544", "∂(W X*ᵀ)/∂W", "X*", inputs, by_weights).convention(
        "I ⊗ X* [9 × 9]", "with rows stacked; X* is the block that every unit has"
    )
    yield shown("553", "∂L/∂v = Z*ᵀ ∂L/∂ŷ", "57.657 29.971 30.249 30.254", by_v).slip(
        "(−57.658, −30.388, −30.140, −30.041)", f"the sign of 532, and {TRANSPOSED}"
    )
    yield words("557-559", "the product for ∂L/∂W", "[3 × 1][1 × 4][3 × 3][3 × 3]").slip(
        "δᵀ X*, δ = (∂L/∂ŷ)ᵀ (v₂ v₃ v₄) ⊙ Z(1 − Z)",
        "the sizes do not fit, the slope multiplies entry by entry, and the bias v₁ meets no unit",
    )
    by_Z = ad.jacobian(guess_of)(Z, out).reshape(3, 3, 3)  # [observation, observation, unit]
    for unit, (lines, weight) in enumerate((("561", 0.02), ("565", 0.03), ("565", 0.04))):
        yield shown(lines, f"∂ŷ/∂Z{'₁₂₃'[unit]}", "0.02 0.03 0.04", by_Z[:, :, unit]).slip(
            f"{weight} I", f"unit {unit + 1} has the one weight v{'₂₃₄'[unit]}, in each observation"
        )
    columns = ("0.2495 0.2491 0.4984", "0.2496 0.2495 0.7485", "0.2494 0.4992 0.4988")
    for unit, (lines, printed) in enumerate(zip(("561", "565", "565"), columns, strict=True)):
        by_unit = ad.jacobian(lambda w: layers.sigmoid(inputs @ w))(weights[unit])
        yield shown(lines, f"∂Z{'₁₂₃'[unit]}/∂W{'₁₂₃'[unit]}", printed, by_unit).slip(
            "diag(Z(1 − Z)) X* [3 × 3]", "slope i times entry i of the rows; it is a whole Jacobian"
        )
    yield words("565", "the second slopes of Z₂, the first of Z₃", "0.2495, 0.2494").slip(
        "0.2494, 0.2497", "542 has them; even the product that is meant is copied wrongly"
    )
    yield words("567-573, 639", "∂L/∂w₂, ∂L/∂w₃", "= 57.6568 · (0.02, 0.03, 0.03) · …").damage(
        "(0.02, 0.03, 0.04)", "the left sides and some digits are lost; 561 and 565 have them"
    )
    yield words("626-628", "Dŷ/DZ", "a column of derivatives by Z₁*, …, Z₄*").slip(
        "a row (v₂ v₃ v₄) for each observation", "Z₁* is the column of ones, and no variable"
    )
    yield words("568", "∂L/∂ŷ", "57.6568").slip(
        "(−15.887, −21.886, −19.886)",
        "its entries are summed (with the wrong sign) before each has met its own observation",
    )
    yield words("637", "the first factor", "Σ (y − ŷ)²").slip("2(ŷ − y)", "the loss, not its slope")
    rows = "3.46 3.46 6.92; 1.15 1.73 2.88; 1.73 2.31 4.04"
    yield shown("643", "∂L/∂W", rows, by_W).slip(
        "(−0.287, −0.387, −0.684; −0.432, −0.580, −1.027; −0.576, −0.774, −1.370)",
        "all of the above; the matrix of 641 is no Jacobian of this network",
    )


EXAMPLES = (forward, backward)
