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
    """y.value = f_y(V_{C_y}), children first."""
    for y in nodes:
        for c in y.children:
            c.parents.append(y)
        if y.children:
            y.value = np.asarray(y.function(*(c.value for c in y.children)))


def back_op(s, ad):
    """s.Grad = Σ over its parents p of p.Grad · ∂p/∂s, once all of them are known."""
    if any(not hasattr(p, "gradient") for p in s.parents):
        return
    s.gradient = (
        np.ones((1, 1)) if not s.parents else sum(p.gradient @ p.jacobian[id(s)] for p in s.parents)
    )
    values = [c.value for c in s.children]
    s.jacobian = {id(c): ad.jacobian(s.function, i)(*values) for i, c in enumerate(s.children)}
    for c in s.children:
        back_op(c, ad)


@example("003", "343-928", "The regularised classifier, node by node")
def classifier(ad):
    """`J = −log(yᵀ softmax(Wx + b)) + λ Σ W²` for one random observation, 3 classes, 4 features.
    Nodes z = Wx, s = z + b, p = softmax(s), l = −log(yᵀp), r = Σ W², J = l + λr; every Jacobian,
    the gradient of every node, and the lecture's own pseudo-code run on that graph.
    """
    normal = normals(31)
    W, b, x, label, weight = normal(3, 4), normal(3), normal(4), 1, 0.1
    y = np.eye(3)[label]

    def l_of(p):
        return -jnp.log(y @ p)

    def r_of(W):
        return jnp.sum(W * W)

    def J_of(l, r):  # noqa: E741 the lecture's letter for the loss
        return l + weight * r

    def J_all(W, b):
        return losses.cross_entropy(layers.linear(x, W, b), label) + weight * r_of(W)

    z, s, identity = W @ x, W @ x + b, np.eye(3)
    p = softmax(s)
    ones, shrink = np.ones((1, 1)), 2 * weight * W
    yield formula("730", "∂J/∂J", "1", ones, ad.jacobian(lambda J: J)(J_all(W, b)))
    yield formula("735", "∂J/∂r", "λ", weight * ones, ad.jacobian(J_of, 1)(l_of(p), r_of(W)))
    yield formula("767", "∂r/∂W", "2W", 2 * W, ad.grad(r_of)(W))
    yield formula("774", "∂J/∂l", "1", ones, ad.jacobian(J_of)(l_of(p), r_of(W)))
    yield formula("794", "∂l/∂p", "−yᵀ/(yᵀp)", -y[None] / (y @ p), ad.jacobian(l_of)(p))
    dp_ds = np.diag(p) - np.outer(p, p)
    yield formula("816", "∂p/∂s", "diag(p) − p pᵀ", dp_ds, ad.jacobian(layers.softmax)(s))
    yield formula("831", "∂s/∂b", "I_C", identity, ad.jacobian(jnp.add, 1)(z, b))
    yield formula("854", "∂s/∂z", "I_C", identity, ad.jacobian(jnp.add)(z, b))
    product = np.kron(identity, x[None])
    yield formula("877", "z = W x", "(I_C ⊗ xᵀ) vec(W)", product @ W.ravel(), layers.linear(x, W))
    yield formula("890", "∂z/∂vec(W)", "I_C ⊗ xᵀ", product, ad.jacobian(layers.linear, 1)(x, W))

    by_W, by_b = ad.grad(J_all, (0, 1))(W, b)
    g = -y / (y @ p) @ dp_ds
    by_s = ad.grad(lambda s: losses.cross_entropy(s, label))(s)
    yield formula("922, 936", "∂J/∂s", "−yᵀ/(yᵀp) (diag(p) − p pᵀ)", g, by_s)
    yield formula("926, 940", "∂J/∂b", "g", g, by_b)
    yield sized("938", "∂J/∂b", (1, 4), by_b[None]).slip(
        "[1 × C] = [1 × 3]", "b has one entry per class; d is the number of features"
    )
    flat = np.concatenate([g[i] * x for i in range(3)]) + 2 * weight * W.ravel()
    yield formula("914", "∂J/∂vec(W)", "(g₁xᵀ … g_Cxᵀ) + 2λ vec(W)ᵀ", flat, by_W.ravel())
    yield words("900", "the same, the slide before", "… + 2λ vec").damage(
        "… + 2λ vec(W)ᵀ", "cut off"
    )
    yield formula("918, 926", "∂J/∂W", "gᵀxᵀ + 2λW", np.outer(g, x) + shrink, by_W)
    yield words("902, 916, 922", "what g is", "∂J/∂x; ∂p/∂p").damage(
        "∂J/∂z; ∂p/∂s", "small letters were read wrongly"
    )

    W_, b_, x_ = node(W), node(b), node(x)
    z_ = node(function=lambda W, x: layers.linear(x, W), children=(W_, x_))
    s_ = node(function=jnp.add, children=(z_, b_))
    p_ = node(function=layers.softmax, children=(s_,))
    l_, r_ = node(function=l_of, children=(p_,)), node(function=r_of, children=(W_,))
    J_ = node(function=J_of, children=(l_, r_))
    forward_pass((W_, b_, x_, z_, s_, p_, l_, r_, J_))
    back_op(J_, ad)
    yield formula(
        "574",
        "∂J/∂W by the pseudo-code",
        "Σ over the parents",
        W_.gradient.reshape(3, 4),
        by_W,
    )
    yield formula("574", "∂J/∂b by the pseudo-code", "Σ over the parents", b_.gradient[0], by_b)
    yield words(
        "346, 512, 520", "whom a node's gradient comes from", "W's children {z, r}, Σ over C_c"
    ).slip(
        "W's parents {z, r}, Σ over P_c",
        "498 calls the arguments of a node its children, so z and r are parents of W, as in 574",
    )
    yield words("100", "the best W, b", "arg max of the mean loss").slip(
        "arg min", "a loss is made small; 102 solves it by gradient descent"
    )
    yield words("13, 23, 80, 359, 574", "single letters", "q(x), v, u, Σ_{i,i}, P_n").damage(
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
