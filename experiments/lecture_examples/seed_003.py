"""Seed 003, a lecture: chains, the generic passes over a graph, the regularised classifier."""

from functools import reduce
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from experiments.lecture_examples.record import (
    example,
    formula,
    normals,
    sigmoid,
    sized,
    softmax,
    words,
)
from fungrad import layers, losses


@example("003", "133-341", "The chain rule for scalars")
def scalars(ad):
    """`sin(x²)`, then a chain of five functions: a forward pass that records y₁ … y_n, a backward
    pass that multiplies g by one local derivative at a time.
    """
    x = np.array(0.7)
    yield formula(
        "162",
        "d sin(x²)/dx",
        "2x cos(x²)",
        2 * x * np.cos(x * x),
        ad.grad(lambda x: jnp.sin(x * x))(x),
    )

    chain = (jnp.sin, jnp.exp, jnp.tanh, jnp.square, jnp.cos)
    recorded = [x]
    for f in chain:
        recorded.append(np.asarray(f(recorded[-1])))
    local = [ad.grad(f)(y) for f, y in zip(chain, recorded[:-1], strict=True)]
    whole = ad.grad(lambda x: reduce(lambda y, f: f(y), chain, x))(x)
    g = np.array(1.0)
    for slope in reversed(local):
        g = g * slope
    yield formula("234, 331-341", "dh/dx", "df_n/dy_{n−1} · … · df₁/dx", g, whole)
    stops_at_1 = np.prod(np.stack(local[1:]))
    yield formula(
        "266, 288", "dy_n/dx, aggregated", "for j = n − 1, n, …, 1", stops_at_1, whole
    ).slip(
        "for j = n − 1, n − 2, …, 0", "it counts down, and y₀ = x is reached at j = 0; 254 is right"
    )
    yield words("338", "where g is taken", "g = dy_n/dy_{j−1} at y_n*").slip(
        "at y_{j−1}*", "each derivative is taken at the recorded value of its own variable"
    )
    yield words("216, 258, 268, 299", "indices of the chain", "i for j, dy₂/dy_n, dy_i").damage(
        "j, dy₂/dy₁, dy_j", "small letters were read wrongly; 249 and 256 show them right"
    )


@example("003", "400-491", "The chain rule for vectors and for branches")
def vectors(ad):
    """Jacobians multiply from left to right; where x feeds several nodes, the paths are added."""
    normal = normals(30)
    A, B, x, w = normal(3, 4), normal(2, 4), normal(4), normal(5)

    def f1(x):
        return layers.tanh(layers.linear(x, A))

    def f2(x):
        return layers.sigmoid(layers.linear(x, B))

    def g(z1, z2):
        return jnp.sum(w * jnp.concatenate([z1, z2]) ** 2)

    z1, z2 = np.tanh(A @ x), sigmoid(B @ x)
    by_z1, by_z2 = ad.jacobian(g, 0)(z1, z2), ad.jacobian(g, 1)(z1, z2)
    whole = ad.jacobian(lambda x: g(f1(x), f2(x)))(x)
    yield sized("422", "∂z/∂x of z [3], x [4]", (3, 4), ad.jacobian(f1)(x))
    yield formula(
        "442",
        "∂s/∂x through z₁ alone",
        "∂s/∂z ∂z/∂x",
        by_z1 @ ad.jacobian(f1)(x),
        ad.jacobian(lambda x: g(f1(x), z2))(x),
    )
    yield formula(
        "471, 487",
        "∂s/∂x",
        "∂s/∂z₁ ∂z₁/∂x + ∂s/∂z₂ ∂z₂/∂x",
        by_z1 @ ad.jacobian(f1)(x) + by_z2 @ ad.jacobian(f2)(x),
        whole,
    )
    yield words("483", "the arguments of g", "g(z₁, …, z_n)").slip(
        "g(z₁, …, z_t)", "there are t branches; n is the sum of their sizes"
    )
    yield words(
        "424, 438, 446, 458", "letters of Jacobians", "∂y/∂z for ∂y/∂x, ∂s/∂u, ∂z₁/∂z₁, ∂s/∂xᵢ"
    ).damage("∂y/∂x, ∂s/∂x, ∂z₁/∂x₁, ∂s/∂x", "small letters were read wrongly")


# ---- the pseudo-code of lines 508-585 ------------------------------------------------------------


def node(value=None, function=None, children=()):
    """A node; its children are the nodes that its function takes, as the lecture has it."""
    return SimpleNamespace(value=value, function=function, children=children, parents=[])


def forward_pass(nodes):
    """y.value = f_y(V_{C_y}), children first; a parent is kept with the place that it has for y."""
    for y in nodes:
        for place, c in enumerate(y.children):
            c.parents.append((y, place))
        if y.children:
            y.value = np.asarray(y.function(*(c.value for c in y.children)))


def back_op(s, ad):
    """s.Grad = Σ over its parents p of p.Grad · ∂p/∂s, once all of them are known."""
    if any(not hasattr(p, "gradient") for p, _ in s.parents):
        return
    terms = [p.gradient @ p.jacobians[place] for p, place in s.parents]
    s.gradient = sum(terms) if terms else np.ones((1, 1))
    values = [c.value for c in s.children]
    s.jacobians = [ad.jacobian(s.function, place)(*values) for place in range(len(values))]
    for c in s.children:
        back_op(c, ad)


@example("003", "343-928", "The regularised classifier, node by node")
def classifier(ad):
    """`J = −log(yᵀ softmax(Wx + b)) + λ Σ W²` for one random observation, 3 classes, 4 features.
    Nodes z = Wx, s = z + b, p = softmax(s), l = −log(yᵀp), r = Σ W², J = l + λr. The lecture's own
    pseudo-code runs on that graph, with fungrad's Jacobians, and the whole J by one gradient.
    """
    normal = normals(31)
    W, b, x, label, weight = normal(3, 4), normal(3), normal(4), 1, 0.1
    y = np.eye(3)[label]

    W_, b_, x_ = node(W), node(b), node(x)
    z_ = node(function=lambda W, x: layers.linear(x, W), children=(W_, x_))
    s_ = node(function=jnp.add, children=(z_, b_))
    p_ = node(function=layers.softmax, children=(s_,))
    l_ = node(function=lambda p: -jnp.log(y @ p), children=(p_,))
    r_ = node(function=lambda W: jnp.sum(W * W), children=(W_,))
    J_ = node(function=lambda l, r: l + weight * r, children=(l_, r_))  # noqa: E741
    forward_pass((W_, b_, x_, z_, s_, p_, l_, r_, J_))
    back_op(J_, ad)

    one, identity, in_W = np.ones((1, 1)), np.eye(3), np.kron(np.eye(3), x[None])
    p = softmax(W @ x + b)
    dl_dp, dp_ds = -y[None] / (y @ p), np.diag(p) - np.outer(p, p)
    yield formula("730", "∂J/∂J", "1", one, J_.gradient)
    yield formula("735, 746", "∂J/∂r", "λ", weight * one, J_.jacobians[1])
    yield formula("767", "∂r/∂W", "2W", 2 * W, r_.jacobians[0].reshape(3, 4))
    yield formula("774, 783", "∂J/∂l", "1", one, J_.jacobians[0])
    yield formula("794", "∂l/∂p", "−yᵀ/(yᵀp)", dl_dp, l_.jacobians[0])
    yield formula("816", "∂p/∂s", "diag(p) − p pᵀ", dp_ds, p_.jacobians[0])
    yield formula("831", "∂s/∂b", "I_C", identity, s_.jacobians[1])
    yield formula("854", "∂s/∂z", "I_C", identity, s_.jacobians[0])
    yield formula("877", "z = W x", "(I_C ⊗ xᵀ) vec(W)", in_W @ W.ravel(), z_.value)
    yield formula("890", "∂z/∂vec(W)", "I_C ⊗ xᵀ", in_W, z_.jacobians[0])

    g = (dl_dp @ dp_ds)[0]
    in_order = np.concatenate([g[i] * x for i in range(3)]) + 2 * weight * W.ravel()
    yield formula("922, 936", "∂J/∂s", "−yᵀ/(yᵀp) (diag(p) − p pᵀ)", g[None], s_.gradient)
    yield formula("926, 940", "∂J/∂b", "g", g[None], b_.gradient)
    yield sized("938", "the size of ∂J/∂b", (1, 4), b_.gradient).slip(
        "[1 × C] = [1 × 3]", "b has one entry per class; d is the number of features"
    )
    yield formula("914", "∂J/∂vec(W)", "(g₁xᵀ … g_Cxᵀ) + 2λ vec(W)ᵀ", in_order[None], W_.gradient)
    yield words("900", "∂J/∂vec(W)", "… + 2λ vec").damage("… + 2λ vec(W)ᵀ", "cut off")

    def J(W, b):
        return losses.cross_entropy(layers.linear(x, W, b), label) + weight * jnp.sum(W * W)

    by_W, by_b = ad.grad(J, (0, 1))(W, b)
    in_matrix = np.outer(g, x) + 2 * weight * W
    yield formula("918, 926", "∂J/∂W of the whole J", "gᵀxᵀ + 2λW", in_matrix, by_W)
    yield formula("926", "∂J/∂b of the whole J", "g", g, by_b)
    yield words("902, 916, 922", "what g is", "∂J/∂x; ∂p/∂p").damage(
        "∂J/∂z; ∂p/∂s", "small letters were read wrongly"
    )
    yield words("346, 512, 520", "what ∂J/∂W sums over", "W's children {z, r}; Σ over C_c").slip(
        "W's parents {z, r}; Σ over P_c",
        "498 calls the arguments of a node its children, so z and r are parents of W, as in 574",
    )
    yield words("100", "the best W, b", "arg max of the mean loss").slip(
        "arg min", "a loss is made small; 102 solves it by gradient descent"
    )
    yield words("13, 23, 80, 205, 359, 574", "single letters", "q(x), v, u, Σ_{i,i}, P_n").damage(
        "g(x), y, y, Σ_{i,j}, P_s", "small letters were read wrongly"
    )


@example("003", "56-82", "The multi-class SVM loss")
def svm(ad):
    """`l = Σ_{j ≠ y} max(0, s_j − s_y + 1)`; the drawing that defines it is lost. Its gradient by
    the scores is 1 for every class within the margin, and minus their number for the true one.
    """
    scores, label = np.array([0.3, 1.2, 1.0, -2.0]), 1
    gap = scores - scores[label] + 1
    active = np.where((gap > 0) & (np.arange(4) != label), 1.0, 0.0)
    value, back = ad.vjp(lambda s: losses.multiclass_svm(s, label), scores)
    yield formula("56, 82", "l", "Σ_{j ≠ y} max(0, s_j − s_y + 1)", np.sum(active * gap), value)
    yield formula(
        "56, 82",
        "∂l/∂s",
        "1(gap > 0) − e_y Σ 1(gap > 0)",
        active - np.eye(4)[label] * np.sum(active),
        back(np.ones_like(value))[0],
    )


@example("003", "944-987", "A mini-batch")
def mini_batch(ad):
    """The loop of the lecture over 5 observations: add g and gᵀxᵀ, divide, add 2λW."""
    normal = normals(32)
    W, b, X, labels, weight = normal(3, 4), normal(3), normal(5, 4), np.array([0, 2, 1, 1, 0]), 0.1

    def J(W, b):
        mean = jnp.mean(losses.cross_entropy(layers.linear(X, W, b), labels))
        return mean + weight * jnp.sum(W * W)

    by_W, by_b = np.zeros((3, 4)), np.zeros(3)
    for x, label in zip(X, labels, strict=True):
        p, y = softmax(W @ x + b), np.eye(3)[label]
        g = -y / (y @ p) @ (np.diag(p) - np.outer(p, p))
        by_W, by_b = by_W + np.outer(g, x), by_b + g
    got_W, got_b = ad.grad(J, (0, 1))(W, b)
    yield formula("953, 987", "∂J/∂W", "1/|D| Σ gᵀxᵀ + 2λW", by_W / 5 + 2 * weight * W, got_W)
    yield formula("955, 987", "∂J/∂b", "1/|D| Σ g", by_b / 5, got_b)


EXAMPLES = (scalars, vectors, classifier, svm, mini_batch)
