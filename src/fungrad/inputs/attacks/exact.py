"""The smallest adversarial change of a linear classifier inside a box, exactly.

For logits z = W x + b the class t wins over y where w · δ ≥ c, w = W_t − W_y, c = z_y − z_t. With
the room r_i that the box leaves on the side of w_i's sign, the shortest such change is

    p = ∞: |δ_i| = min(s, r_i)        p = 2: |δ_i| = min(s |w_i|, r_i)        s with w · δ = c
    p = 1: the entries with the largest |w_i| to their bounds, until w · δ = c

for c > 0 and Σ |w_i| r_i ≥ c; the shortest over all t ≠ y is the answer. All in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad.inputs.attacks import arguments, programs
from fungrad.inputs.attacks.criteria import Misclassified, Targeted
from fungrad.inputs.attacks.method import Method
from fungrad.inputs.attacks.report import Exact
from fungrad.transforms import jacrev

HALVINGS = 200  # of an interval in float64, which is at an end after some 60


def exact(
    model: Callable[..., Any],
    x: Any,
    criterion: Misclassified,
    norm: float,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Exact:
    """The distance of each example to the nearest other class of a linear classifier, in the box.

    What attacks are to be judged by: none finds less, and a good one finds this.

    Args:
        model: x[N, ...] -> logits[N, C], affine: z = W x + b. W and b are read off it, and the
            model is tried at other points of the box.
        x: floating-point examples [N, ...] in the bounds.
        criterion: `Misclassified(labels)`.
        norm: p = 1, 2 or ∞.
        bounds: (low, high), which may be infinite.

    Returns:
        An `Exact`: `.distance` [N] in float64, 0 where x is misclassified, ∞ where no point of the
        box is; `.target` [N], the class that is reached; `.x`, where; and
        `.robust_accuracy(epsilons)`, the curve.

    Raises:
        TypeError, ValueError: what `attack` raises; and if the model is not affine, or the
            criterion is `Targeted`, for which there is no such answer.

    >>> import jax.numpy as jnp
    >>> W = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    >>> found = exact(lambda x: x @ W.T, jnp.array([[0.9, 0.1]]), Misclassified(jnp.array([0])), 1)
    >>> found.distance.round(6).tolist(), found.target.tolist()
    ([0.35], [1])
    """
    arguments.check_model(model)
    Method(norm)
    bounds = arguments.checked_bounds(bounds)
    clean = arguments.checked_x(x, bounds)
    criterion = arguments.checked_criterion(criterion, len(clean))
    graphs, _ = programs.read(model, clean.shape, clean.dtype)
    classes = arguments.classes_of(graphs.fast, len(clean))
    arguments.check_labels(criterion, classes)
    if isinstance(criterion, Targeted):
        raise TypeError("criterion must be Misclassified: a target has many boundaries at once")
    W, b = _read_off(model, clean, bounds)

    start = np.asarray(clean, np.float64).reshape(len(clean), -1)
    labels = np.asarray(criterion.labels)
    z = start @ W.T + b
    low, high = bounds
    best = np.full(len(start), np.inf), np.zeros_like(start), labels.copy()
    for t in range(classes):
        w = W[t] - W[labels]
        gain = z[np.arange(len(z)), labels] - z[:, t]
        room = np.where(w < 0, start - low, high - start)
        amount = shortest(np.abs(w), np.where(w == 0, 0, room), gain, norm)
        length = np.linalg.norm(amount, norm, axis=1)
        wins = (labels != t) & (length < best[0])
        best[0][wins], best[2][wins] = length[wins], t
        best[1][wins] = np.sign(w[wins]) * amount[wins]
    distance, delta, target = best
    moved = np.clip(start + delta, low, high).reshape(clean.shape)
    return Exact(distance, target, jnp.asarray(moved, clean.dtype), norm)


def shortest(a: np.ndarray, room: np.ndarray, gain: np.ndarray, norm: float) -> np.ndarray:
    """The amounts [N, D] with Σ a_i amount_i = c and the smallest p-norm; ∞ where none reach c."""
    gain = np.maximum(gain, 0)[:, None]
    # No entry needs to go farther than to where it reaches c alone; the box may have no end.
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = np.where(a > 0, gain / a, 0)
        reach = np.sum(np.where(a > 0, a * room, 0), axis=1, keepdims=True)
    room = np.minimum(room, alone)
    if norm == 1:
        amount = _knapsack(a, room, gain)
    else:
        amount = _bisected(a, room, gain, a if norm == 2 else np.ones_like(a))
    return np.where(reach >= gain, amount, np.inf)


def _bisected(a: np.ndarray, room: np.ndarray, gain: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """min(s · shape, room), s by bisection over the multiplier."""
    low = np.zeros_like(gain)
    high = np.max(room / np.where(shape > 0, shape, 1), axis=1, keepdims=True)  # all at their end
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        short = np.sum(a * np.minimum(middle * shape, room), axis=1, keepdims=True) < gain
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.minimum(high * shape, room)


def _knapsack(a: np.ndarray, room: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """As much as there is room for of the largest a, then of the next, until c is reached."""
    order = np.argsort(-a, axis=1)
    a, room = np.take_along_axis(a, order, 1), np.take_along_axis(room, order, 1)
    before = np.cumsum(a * room, axis=1) - a * room
    amount = np.where(a > 0, np.clip((gain - before) / np.where(a > 0, a, 1), 0, room), 0)
    out = np.zeros_like(amount)
    np.put_along_axis(out, order, amount, 1)
    return out


def _read_off(model: Any, x: jax.Array, bounds: tuple[float, float]) -> tuple[Any, Any]:
    """W [C, D] and b [C] in float64.

    Raises:
        ValueError: the model is not affine at the points that are tried.
    """
    with jax.default_matmul_precision("highest"):
        slope = jacrev(lambda point: model(point[None])[0])
        W = np.asarray(jax.jit(slope)(x[0]), np.float64).reshape(-1, x[0].size)
        z = np.asarray(model(x), np.float64)
        low, high = (np.clip(bound, -1e3, 1e3) for bound in bounds)
        middle = jnp.asarray((low + high) / 2, x.dtype)
        other = np.asarray(model(x + (middle - x) / 2), np.float64)
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    between = np.asarray(x + (middle - x) / 2, np.float64).reshape(len(x), -1)
    b = z[0] - W @ flat[0]
    size = np.abs(z).max() + (np.abs(flat) @ np.abs(W).T).max() + np.abs(b).max()
    worst = max(np.abs(flat @ W.T + b - z).max(), np.abs(between @ W.T + b - other).max())
    if not worst <= 64 * float(jnp.finfo(x.dtype).eps) * size:
        raise ValueError(
            f"model must be affine, z = W x + b, to have an exact answer; it is off by {worst:.3g} "
            "from the one that has its gradient"
        )
    return W, b
