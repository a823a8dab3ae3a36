"""Seed 001, computation graphs: chains, gates, ranks, compositions; all but graph 12."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lecture_examples.record import example, formula, normals, shown, sigmoid, words
from fungrad import layers, losses


@example("001", "270-362", "Graphs 1 to 3: two layers, two losses")
def two_layers(ad):
    """`z = f₁(W₁, x)`, `ŷ = f₂(W₂, z)`, here with sigmoids; a gradient is the product of the
    Jacobians along the way.
    """
    normal = normals(20)
    W1, W2, x, y = normal(3, 4), normal(1, 3), normal(4), np.array([0.3])

    def f1(W1, x):
        return layers.sigmoid(layers.linear(x, W1))

    def f2(W2, z):
        return layers.sigmoid(layers.linear(z, W2))

    z = sigmoid(W1 @ x)
    guess = sigmoid(W2 @ z)
    by_z, by_W2, dz_dW1 = ad.jacobian(f2, 1)(W2, z), ad.jacobian(f2)(W2, z), ad.jacobian(f1)(W1, x)

    def square(W1, W2):
        return jnp.sum(losses.squared_error(f2(W2, f1(W1, x)), y))

    def entropy(W1, W2):
        return jnp.sum(losses.binary_cross_entropy(layers.linear(f1(W1, x), W2), y))

    def rows(loss):
        return [gradient.reshape(1, -1) for gradient in ad.grad(loss, (0, 1))(W1, W2)]

    in_W1, in_W2 = rows(square)
    slope = 2 * (guess - y)[None]
    yield formula(
        "296", "∂L/∂W₁, L = (ŷ − y)²", "2(ŷ − y) ∂f₂/∂z ∂f₁/∂W₁", slope @ by_z @ dz_dW1, in_W1
    )
    yield formula("298", "∂L/∂W₂, L = (ŷ − y)²", "2(ŷ − y) ∂f₂/∂W₂", slope @ by_W2, in_W2)

    in_W1, in_W2 = rows(entropy)
    printed = -(y * np.log(guess)) + (1 - y) * np.log(1 - guess)
    loss = losses.binary_cross_entropy(layers.linear(z, W2), y)
    yield formula(
        "302, 346", "L, cross-entropy", "−Σ (y log ŷ) + (1 − y) log(1 − ŷ)", printed, loss
    ).slip(
        "−Σ (y log ŷ + (1 − y) log(1 − ŷ))",
        "the minus sign and the sum hold for both terms; 304 differentiates the right loss",
    )

    def by_guess(guess):
        return jnp.sum(-(y * jnp.log(guess) + (1 - y) * jnp.log(1 - guess)))

    yield formula(
        "305, 350",
        "∂L/∂ŷ, cross-entropy",
        "−y/ŷ + (1 − y)/(1 − ŷ)",
        -y / guess + (1 - y) / (1 - guess),
        ad.grad(by_guess)(guess),
    )
    slope = (-y / guess + (1 - y) / (1 - guess))[None]
    yield formula(
        "307, 354",
        "∂L/∂W₁, cross-entropy",
        "(−y/ŷ + (1 − y)/(1 − ŷ)) ∂f₂/∂z ∂f₁/∂W₁",
        slope @ by_z @ dz_dW1,
        in_W1,
    )
    yield formula(
        "309, 352",
        "∂L/∂W₂, cross-entropy",
        "(−y/ŷ + (1 − y)/(1 − ŷ)) ∂f₂/∂W₂",
        slope @ by_W2,
        in_W2,
    )
    yield words("311", "a heading", "When the loss function is cross-entropy:").damage(
        "it belongs to 344", "the lines of question 3 are out of order"
    )
    yield words("325", "∂ŷ/∂W₁", "∂f₂/∂W₁").slip(
        "∂ŷ/∂W₂ = ∂f₂/∂W₂", "f₂ takes W₂; ∂ŷ/∂W₁ = ∂f₂/∂z ∂f₁/∂W₁"
    )
    yield formula("331", "∂L/∂W₂", "∂L/∂ŷ ∂ŷ/∂W₂ ∂z/∂W₁", slope @ by_W2 @ dz_dW1, in_W2).slip(
        "∂L/∂ŷ ∂ŷ/∂W₂", "W₂ does not act through z: a factor too many, dropped again at 332"
    )


@example("001", "356-362", "Graph 3: two neurons side by side")
def two_neurons(ad):
    """The drawing is lost and most indices of the text with it. What can be read: d = w₁x₁,
    e = w₂x₂, f = d + e, g = f + b, z = σ(g), h = v z, l = h + c for each neuron, ŷ = l₁ + l₂. The
    product of the local derivatives of a path is the gradient.
    """
    normal = normals(21)
    x, w, b, v, c, y = normal(2, 2), normal(2, 2), normal(2), normal(2), normal(2), 0.5

    def L(w, b, x):
        d, e = w[:, 0] * x[:, 0], w[:, 1] * x[:, 1]
        return losses.squared_error(jnp.sum(v * layers.sigmoid(d + e + b) + c), y)

    z = sigmoid(np.sum(w * x, axis=1) + b)
    above = 2 * (np.sum(v * z + c) - y) * v * z * (1 - z)
    by_w, by_b = ad.grad(L, (0, 1))(w, b, x)
    yield formula(
        "362", "∂L/∂w", "∂L/∂ŷ ∂ŷ/∂l ∂l/∂h ∂h/∂z ∂z/∂g ∂g/∂f ∂f/∂d ∂d/∂w", above[:, None] * x, by_w
    )
    yield words("362", "factors of the paths", "∂d₁/∂d₁, ∂g₁/∂g₁ in the paths of w₁₁, w₁₂").damage(
        "∂f₁/∂d₁, ∂z₁/∂g₁", "letters were read wrongly; the other paths show the right ones"
    )
    yield formula("362", "∂L/∂b", "∂L/∂ŷ ∂ŷ/∂l ∂l/∂h ∂h/∂z ∂z/∂g ∂g/∂b", above, by_b)
    yield words("362", "the path of b", "… ∂f₂/∂w₁₂ ∂d₂/∂w₁₂").damage(
        "… ∂z₁/∂g₁ ∂g₁/∂b₁", "b enters at g; the printed tail ends at a weight"
    )


@example("001", "364-415", "Graph 4: gates")
def gates(ad):
    """Add passes g on, multiply passes it times the other input, max and min pass it to the
    winner.
    """
    two = (np.array(3.0), np.array(2.0))

    def gate(function, x=two):
        return np.stack(ad.grad(function, (0, 1))(*x))

    def plus_constant(x, k):
        return x + jax.lax.stop_gradient(k)

    def times_constant(x, k):
        return x * jax.lax.stop_gradient(k)

    add, multiply = gate(jnp.add), gate(jnp.multiply)
    yield shown("364", "∂(x + k)/∂x", "1", add[0])
    yield formula("365", "∂(x + k)/∂k", "0", 0.0, add[1]).convention(
        "1 as a partial derivative", "k is a constant: no gradient is wanted, so none is passed on"
    )
    yield shown("365", "what a constant k gets from x + k", "0", gate(plus_constant)[1])
    yield shown("369-370", "∂(x₁ + x₂)/∂(x₁, x₂)", "1 1", add)
    yield formula("389", "∂(x k)/∂x", "k", two[1], multiply[0])
    yield formula("391", "∂(x k)/∂k", "0", 0.0, multiply[1]).convention(
        "x as a partial derivative", "as at 365"
    )
    yield shown("391", "what a constant k gets from x · k", "0", gate(times_constant)[1])
    yield formula("397-399", "∂(x₁ x₂)/∂(x₁, x₂)", "(x₂, x₁)", np.stack(two[::-1]), multiply)
    yield shown("403-405", "∂max(x₁, x₂), x₁ > x₂", "1 0", gate(jnp.maximum))
    yield shown("412-415", "∂min(x₁, x₂), x₁ > x₂", "0 1", gate(jnp.minimum))
    tie = (two[0], two[0])
    why = "any split of 1 is a subgradient; JAX and fungrad split a tie equally (docs/kinks.md)"
    yield shown("403-405", "∂max(x₁, x₂), x₁ = x₂", "1 0", gate(jnp.maximum, tie)).convention(
        "(½, ½)", why
    )
    yield shown("412-415", "∂min(x₁, x₂), x₁ = x₂", "1 0", gate(jnp.minimum, tie)).convention(
        "(½, ½)", why
    )


@example("001", "422-434", "Graphs 6 to 8: ranks of derivatives")
def ranks(ad):
    """`rank(∂y/∂v) = rank(y) + rank(v)`. The drawings of the three questions are lost; each is read
    as the formula under which most of its answers are right.
    """
    normal = normals(22)
    x, w, X, W, b, bs = normal(4), normal(4), normal(3, 4), normal(3, 4), normal(), normal(3)

    def rank(y, *args):
        return [np.ndim(ad.jacrev(y, i)(*args)) for i in range(3)]

    def one(b, w, x):
        return w @ x + b

    def rows_of_X(b, w, X):
        return X @ w + b

    def inner(b, W, X):
        return jnp.sum(W * X) + b

    def layer(b, W, x):
        return layers.linear(x, W, b)

    yield shown("422", "ranks of ∂y/∂b, ∂y/∂w, ∂y/∂x, y = wᵀx + b", "0 1 1", rank(one, b, w, x))
    yield shown(
        "428", "ranks of ∂y/∂b, ∂y/∂w, ∂y/∂X, y = X w + b", "1 2 2", rank(rows_of_X, b, w, X)
    ).convention(
        "1, 2, 3", "∂yᵢ/∂Xⱼₖ has three indices; it is 0 for i ≠ j, and rank 2 without those zeros"
    )
    yield shown(
        "428", "the same of a layer, y = W x + b", "1 2 2", rank(layer, bs, W, x)
    ).convention("2, 3, 2", "if the lost drawing is a layer: ∂yᵢ/∂bⱼ = δᵢⱼ and ∂yᵢ/∂Wⱼₖ = δᵢⱼ xₖ")
    yield shown(
        "434", "ranks of ∂y/∂b, ∂y/∂W, ∂y/∂X, y = Σ W ⊙ X + b", "0 2 2", rank(inner, b, W, X)
    )


@example("001", "436-461", "Graphs 9 and 10: the Jacobian of a composition")
def composition(ad):
    """`G(a, b) = (a − 5b, ab, a − b)`, `F(c, d, e) = (3cd, d − e)`, at a = 2, b = 3."""
    a, b = 2.0, 3.0
    point = np.array([a, b])

    def G(x):
        return jnp.stack([x[0] - 5 * x[1], x[0] * x[1], x[0] - x[1]])

    def F(u):
        return jnp.stack([3 * u[0] * u[1], u[1] - u[2]])

    dF, dG = ad.jacobian(F)(G(point)), ad.jacobian(G)(point)
    total = ad.jacobian(lambda x: F(G(x)))(point)
    yield formula("440", "d(F ∘ G)/dx", "F′(G) · G′(x)", dF @ dG, total)
    yield formula(
        "446",
        "(F ∘ G)(a, b)",
        "(3(a − 5b)ab, ab − (a − b))",
        np.array([3 * (a - 5 * b) * a * b, a * b - (a - b)]),
        F(G(point)),
    )
    printed = np.array([[3 * a * b, 3 * (a - 5 * b), 3 * a * b], [0, 1, -1]])
    yield formula("455", "dF/dG", "(3ab, 3(a − 5b), 3ab; 0, 1, −1)", printed, dF).slip(
        "(3ab, 3(a − 5b), 0; 0, 1, −1)",
        "F₁ = 3cd does not contain e; 453 rewrites c = a − 5b as (a − b) − 4b to bring e in",
    )
    yield formula("457", "dG/da", "(1, b, 1)", np.array([1, b, 1]), dG[:, 0])
    yield formula("457", "dG/db", "(−5, a, −1)", np.array([-5, a, -1]), dG[:, 1])
    by_a = np.array([9 * a * b - 15 * b * b, b - 1])
    yield formula("459", "dF/da", "(9ab − 15b², b − 1)", by_a, total[:, 0]).slip(
        "(6ab − 15b², b − 1)", "the entry of 455 carried on"
    )
    by_b = np.array([-33 * a * b + 3 * a * a, a + 1])
    yield formula("461", "dF/db", "(−33ab + 3a², a + 1)", by_b, total[:, 1]).slip(
        "(−30ab + 3a², a + 1)", "the entry of 455 carried on"
    )


@example("001", "575-602", "Graph 13: gradients and Jacobians by hand")
def jacobians(ad):
    """A square, a map of the plane, and its composition with the curve `G(x) = (x, x²)`."""
    point, t = np.array([1.0, 2.0]), np.array([1.5])
    x, y = 1.0, 2.0

    def F(p):
        return jnp.stack([p[0] ** 2 + 2 * p[1], 3 * p[0] + 4 * p[1] ** 2])

    def G(t):
        return jnp.stack([t[0], t[0] ** 2])

    by_xy = ad.grad(lambda p: (2 * p[0] + 3 * p[1]) ** 2)(point)
    yield formula(
        "579",
        "∇(2x + 3y)² at (1, 2)",
        "(8x + 12y, 12x + 18y)",
        np.array([8 * x + 12 * y, 12 * x + 18 * y]),
        by_xy,
    )
    dF = ad.jacobian(F)(point)
    yield formula("584", "DF(1, 2)", "(2x, 2; 3, 8y)", np.array([[2 * x, 2], [3, 8 * y]]), dF)
    yield words("584", "DF(1, 2)", "(2x, 2; 3, 8y)").slip(
        "(2, 2; 3, 16)", "the point (1, 2) is asked for and not put in"
    )
    u = t[0]
    total = ad.jacobian(lambda t: F(G(t)))(t)
    yield formula(
        "593", "D(F ∘ G)(x)", "(6x, 3 + 16x³)", np.array([[6 * u], [3 + 16 * u**3]]), total
    )
    yield formula(
        "598",
        "DF(G(x))",
        "(2x, 2; 3, 8x²)",
        np.array([[2 * u, 2], [3, 8 * u**2]]),
        ad.jacobian(F)(G(t)),
    )
    yield formula("600", "DG(x)", "(1, 2x)", np.array([[1], [2 * u]]), ad.jacobian(G)(t))
    yield words("602", "the chain rule", "DF(DG(x))").slip(
        "DF(G(x)) · DG(x)", "DF is taken at G(x) and multiplied by DG(x); the product is right"
    )


@example("001", "645-665", "Graph 14: a chain with two sigmoids")
def squashed(ad):
    """`a = W X`, `b = σ(a)`, `c = V b`, `ŷ = σ(c)`, all scalars, and half the squared error. The
    slope of a sigmoid is written with what comes out of it.
    """
    X, W, V, y = (np.array(value) for value in (0.7, -0.4, 1.3, 0.2))

    def L(W, V):
        return losses.squared_error(layers.sigmoid(V * layers.sigmoid(W * X)), y) / 2

    a = W * X
    b = sigmoid(a)
    c = V * b
    guess = sigmoid(c)
    error, dW, dV = guess - y, *ad.grad(L, (0, 1))(W, V)
    yield formula(
        "651",
        "∂L/∂ŷ of ½(ŷ − y)²",
        "ŷ − y",
        error,
        ad.grad(lambda guess: losses.squared_error(guess, y) / 2)(guess),
    )
    yield words("651", "L₂(ŷ, y)", "½(ŷ − y)²").convention(
        "(ŷ − y)², as at 292 and 512", "with the half the gradient has no 2; without it, it has"
    )
    yield formula("653", "∂ŷ/∂c", "c (1 − c)", c * (1 - c), ad.grad(layers.sigmoid)(c)).slip(
        "ŷ (1 − ŷ)", "c is not squashed yet; ŷ = σ(c) is"
    )
    yield formula("655", "∂c/∂b", "V", V, ad.grad(lambda b: V * b)(b))
    yield formula("657", "∂c/∂V", "b", b, ad.grad(lambda V: V * b)(V))
    yield formula("659", "∂b/∂a", "a (1 − a)", a * (1 - a), ad.grad(layers.sigmoid)(a)).slip(
        "b (1 − b)", "a is not squashed yet; b = σ(a) is"
    )
    yield formula("661", "∂a/∂W", "X", X, ad.grad(lambda W: W * X)(W))
    printed = error * c * (1 - c) * V * a * (1 - a) / (1 - a) ** 2
    yield formula("663", "∂L/∂W", "(ŷ − y) c (1 − c) V a (1 − a)/(1 − a)²", printed, dW).slip(
        "(ŷ − y) ŷ (1 − ŷ) V b (1 − b) X",
        "the slopes of 653 and 659, and the factor X is missing; what stands below the line is "
        "probably a mark on the page",
    )
    printed = error * c * (1 - c) * b / (c * (1 - c) * b)
    yield formula("665", "∂L/∂V", "(ŷ − y) c (1 − c) b/(c (1 − c) b)", printed, dV).slip(
        "(ŷ − y) ŷ (1 − ŷ) b", "the slope of 653; below the line as at 663"
    )


EXAMPLES = (two_layers, two_neurons, gates, ranks, composition, jacobians, squashed)
