"""Seed 000, a lecture: one iteration of backpropagation in numbers, and the lecture's formulas."""

import jax.numpy as jnp
import numpy as np
import optax

from experiments.lecture_examples.record import (
    example,
    formula,
    normals,
    shown,
    sized,
    softmax,
    words,
)
from fungrad import layers, losses, notation


@example("000", "466-607", "One iteration of backpropagation")
def tanh_network(ad):
    """A linear layer, tanh, a linear layer with one output, half the squared error. Every step back
    is `g_in = g_out · ∂out/∂in`, and the update is `W + η (∂L/∂W)ᵀ` with η = −0.2.

    `∂L/∂W` stands as the lecture writes it, `[n × m]` for a matrix W `[m × n]`.
    """
    W0, W1 = np.array([[1.0, -3.0], [0.2, 1.0]]), np.array([[1.0, -1.0]])
    x0, y, eta = np.array([1.0, 0.1]), np.array([0.5]), -0.2

    x1, back_linear0 = ad.vjp(layers.linear, x0, W0)
    x2, back_tanh = ad.vjp(layers.tanh, x1)
    x3, back_linear1 = ad.vjp(layers.linear, x2, W1)
    L, back_loss = ad.vjp(lambda x3: jnp.sum(losses.squared_error(x3, y)) / 2, x3)

    (g3,) = back_loss(np.ones_like(L))
    g2, gW1 = back_linear1(g3)
    (g1,) = back_tanh(g2)
    _, gW0 = back_linear0(g1)
    in_W0, in_W1 = notation.lecture_layout(gW0), notation.lecture_layout(gW1)

    yield shown("537", "x₁ = W₀ x₀", "1 0.2", x1).damage(
        "(0.7, 0.3)", "the result stands at 555, away from its place; 572 uses 0.7 and 0.3"
    )
    yield shown("555", "x₁ = W₀ x₀", "0.7 0.3", x1)
    yield shown("542", "x₂ = tanh x₁", "0.604 0.291", x2)
    yield shown("547, 557", "x₃ = W₁ x₂", "0.313", x3)
    yield shown("552", "L = ½ (x₃ − y)²", "0.017", L)
    yield formula("511", "∂L/∂x₃", "|∂L/∂x₃| = x₃ − y", np.abs(x3 - y), g3).damage(
        "∂L/∂x₃ = x₃ − y", "the bars are a frame around the formula: the derivative is negative"
    )
    yield shown("562", "∂L/∂x₃ = x₃ − y", "-0.1869", g3)
    yield shown("568", "∂L/∂x₂ = ∂L/∂x₃ W₁", "-0.1869 0.1869", g2)
    slope = 1 - np.tanh(x1) ** 2
    yield formula(
        "505", "∂x₂/∂x₁", "1 − tanh²(x₁)", slope, ad.jacobian(layers.tanh)(x1)
    ).convention("diag(1 − tanh² x₁)", "the Jacobian is [2 × 2]; 572 writes it out")
    yield shown("572", "∂L/∂x₁ = ∂L/∂x₂ diag(1 − tanh² x₁)", "-0.1186 0.171", g1).rounding(
        "(−0.1187, 0.171)", "−0.118661; the seed multiplied the rounded −0.1869"
    )
    yield shown("586", "∂L/∂W₀ = x₀ ∂L/∂x₁", "-0.1186 0.171; -0.01186 0.0171", in_W0).rounding(
        "(−0.1187, 0.171; −0.01187, 0.0171)", "the last digit of 572 carried on"
    )
    yield shown("590", "∂L/∂x₃, the factor in ∂L/∂W₁", "-0.1186", g3).slip(
        "−0.1869", "−0.1186 is an entry of ∂L/∂x₁; the product that is printed is right"
    )
    yield shown("590", "∂L/∂W₁ = x₂ ∂L/∂x₃", "-0.113 -0.054", in_W1)
    yield shown("599", "(∂L/∂W₀)ᵀ in the update", "-0.1186 0.1; -0.01186 0.01", in_W0.T).slip(
        "(−0.1187, −0.01187; 0.171, 0.0171)",
        "the matrix stands there without its transposition, and cut off; the result is right",
    )
    yield shown("600", "W₀ + η (∂L/∂W₀)ᵀ", "1.02 -3.0; 0.17 1.0", notation.update(W0, in_W0, eta))
    yield shown("606", "(∂L/∂W₁)ᵀ in the update", "-0.113 -0.054", in_W1.T)
    yield shown("607", "W₁ + η (∂L/∂W₁)ᵀ", "1.02 -0.989", notation.update(W1, in_W1, eta))


@example("000", "85-181", "Matrix calculus: sizes and the chain rule")
def matrix_calculus(ad):
    """A derivative of y `[m × 1]` by x `[n × 1]` is `[m × n]`: a gradient is a row. The chain rule
    multiplies from left to right, here with |z| = 1, |u| = 2, |x| = 4.
    """
    normal = normals(0)
    A, x = normal(2, 4), normal(4)
    X = normal(3, 2)

    def g(x):
        return layers.tanh(layers.linear(x, A))

    def f(u):
        return jnp.sum(u * u)[None]

    def h(x):
        return f(g(x))

    dz_du, du_dx, dz_dx = ad.jacobian(f)(g(x)), ad.jacobian(g)(x), ad.jacobian(h)(x)
    norm = ad.grad(lambda X: jnp.sum(X * X))
    yield sized("104", "∂y/∂x of a scalar y, n = 4", (1, 4), dz_dx)
    yield sized("112", "∂y/∂x of a vector y, m = 2, n = 4", (2, 4), du_dx)
    yield sized("116", "∂y/∂X of a scalar y, X [3 × 2]", (2, 3), notation.lecture_layout(norm(X)))
    yield formula("124, 130", "∂z/∂x", "∂z/∂u · ∂u/∂x", dz_du @ du_dx, dz_dx)
    yield sized("124", "h′(x) with |z| = 1, |u| = 2, |x| = 4", (2, 2), dz_dx).damage(
        "[1 × 4] = [1 × 2] · [2 × 4]", "the drawing of empty matrices is lost"
    )
    yield words("20", "θᵗ − ηₜ ∂J/∂θ", "column − row").convention(
        "θᵗ − ηₜ (∂J/∂θ)ᵀ", "θ is a column and ∂J/∂θ a row; 270 and 485 write the transposition"
    )
    yield words("144", "∂J/∂θᵢ = Σᵢ ∂L(x⁽ⁱ⁾)/∂θᵢ", "i twice").slip(
        "∂J/∂θₗ = Σᵢ ∂L(x⁽ⁱ⁾)/∂θₗ", "i counts the examples, so it cannot also name the parameter"
    )
    yield words("55, 197", "parameters of layer l", "θ_I, layer I").damage(
        "θ_l, layer l", "the letter l was read as I"
    )
    yield words("72, 83", "J(θ) as a function of the parameters", "Σᵢ, from i = 1").damage(
        "Σᵢ over i = 1 … N", "the formula is in two pieces, without the upper limit"
    )
    yield words("210-221", "the three outputs of layer l", "a_l, b_l; ∂f/∂θ").damage(
        "∂J/∂x_{l−1} = ∂J/∂x_l ∂f_l/∂x_{l−1}; ∂f_l/∂θ_l", "left sides and subscripts are lost"
    )
    yield words("236-239", "3. Parameter update", "∂J/∂θ_l = ∂J/∂x_l ∂f_l/∂θ_l").convention(
        "θ_l ← θ_l + η (∂J/∂θ_l)ᵀ", "the line stops at the gradient; 270 has the update"
    )


@example("000", "242-277", "The linear layer, and a whole perceptron backward")
def linear_layer(ad):
    """`x_out = W x_in`: the gradient passes as `g_in = g_out W`, and `∂J/∂W = x_in g_out`. On
    random numbers.
    """
    normal = normals(1)
    x, g = normal(4), normal(3)
    W1, W2 = normal(3, 4), normal(2, 3)
    g_in, g_W = ad.vjp(layers.linear, x, W1)[1](g)
    yield formula("247", "∂x_out/∂x_in", "W", W1, ad.jacobian(layers.linear)(x, W1))
    yield formula("253", "g_in", "g_out W", g @ W1, g_in)
    yield formula(
        "262", "∂J/∂W, [n × m]", "x_in g_out", np.outer(x, g), notation.lecture_layout(g_W)
    )
    yield formula(
        "270",
        "W + η (∂J/∂W)ᵀ, η = −0.2",
        "W + η (∂J/∂W)ᵀ",
        W1 - 0.2 * np.outer(x, g).T,
        notation.update(W1, notation.lecture_layout(g_W), -0.2),
    )

    def perceptron(x):
        return layers.linear(layers.relu(layers.linear(x, W1)), W2)

    g1 = normal(2)
    H = np.diag(np.where(W1 @ x > 0, 1.0, 0.0))
    (g4,) = ad.vjp(perceptron, x)[1](g1)
    yield formula(
        "277", "g₄ᵀ, the gradient at the input", "W₁ᵀ H′ᵀ W₂ᵀ g₁ᵀ", W1.T @ H.T @ W2.T @ g1, g4
    )


@example("000", "139-181, 286", "Chains, branches and shared weights")
def graphs(ad):
    """The layers of a chain share the product from the top; where an edge forks the gradients add,
    and a weight that is used twice gets both of its gradients.
    """
    normal = normals(2)
    x, y = normal(5, 3), normal(5, 3)
    first, second = normal(2, 3, 3)

    def output(first, second, x):
        return layers.linear(layers.tanh(layers.linear(x, first)), second)

    def cost(first, second, x, y):
        return jnp.sum(losses.squared_error(output(first, second, x), y))

    gradients = ad.grad(cost, (0, 1))
    by_example = sum(gradients(first, second, x[i : i + 1], y[i : i + 1])[0] for i in range(5))
    whole = gradients(first, second, x, y)[0]
    yield formula("50, 144", "∂J/∂W of J = Σᵢ Lᵢ", "Σᵢ ∂Lᵢ/∂W", by_example, whole)

    one, two = x[0], np.tanh(first @ x[0])
    dJ_dx2 = ad.jacobian(lambda x2: jnp.sum(losses.squared_error(x2, y[0])))(second @ two)
    dx2_dx1 = ad.jacobian(layers.linear)(two, second)
    dx1_dW = ad.jacobian(lambda W: layers.tanh(layers.linear(one, W)))(first)
    yield formula(
        "180",
        "∂J/∂θ of the last layer but one",
        "∂J/∂x_L ∂x_L/∂x_{L−1} ∂x_{L−1}/∂θ",
        dJ_dx2 @ dx2_dx1 @ dx1_dW,
        gradients(first, second, x[:1], y[:1])[0].reshape(1, -1),
    )

    shared = ad.grad(lambda W: cost(W, W, x, y))(first)
    yield formula(
        "286",
        "∂J/∂W where W is used in two layers",
        "the sum over both uses",
        sum(gradients(first, first, x, y)),
        shared,
    )


@example("000", "288-335", "Optimisation: three orders, batches, momentum")
def optimisation(ad):
    """On the bowl `J = ½ θᵀ A θ − bᵀ θ`: what J, its gradient and its Hessian give; then
    mini-batches and the heavy ball, three steps with η = 0.1 and α = 0.9.
    """
    A, b = np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([1.0, -1.0])
    theta = np.array([2.0, 1.0])

    def J(theta):
        return theta @ A @ theta / 2 - b @ theta

    slope = ad.grad(J)
    newton = theta - np.linalg.solve(ad.hessian(J)(theta), slope(theta))
    yield formula(
        "290",
        "θ − H⁻¹ ∇J, one step of second order",
        "the minimum A⁻¹ b",
        np.linalg.solve(A, b),
        newton,
    )

    normal = normals(3)
    x, y = normal(6, 2), normal(6)

    def total(theta, x, y):
        return jnp.sum(losses.squared_error(x @ theta, y))

    gradient = ad.grad(total)
    batches = [gradient(theta, x[i : i + 2], y[i : i + 2]) * (6 / 2) for i in (0, 2, 4)]
    full = gradient(theta, x, y)
    yield formula(
        "304",
        "batch of N: the step's gradient",
        "∇J",
        full,
        sum(gradient(theta, x[i : i + 1], y[i : i + 1]) for i in range(6)),
    )
    yield formula("305-307", "mean over the batches of N/|B| ∇J_B", "∇J", full, sum(batches) / 3)

    def heavy_ball(sign):
        now, update = theta, jnp.zeros(2)
        for _ in range(3):
            update = -0.1 * slope(now) + sign * 0.9 * update
            now = now + update
        return now

    def optax_sgd():
        optimizer = optax.sgd(0.1, momentum=0.9)
        now, state = theta, optimizer.init(theta)
        for _ in range(3):
            step, state = optimizer.update(slope(now), state)
            now = now + step
        return now

    yield formula(
        "318",
        "θ³ of the heavy ball, m = the previous update",
        "θ − η ∇f(θ) − α m",
        heavy_ball(-1.0),
        optax_sgd(),
    ).slip(
        "θ − η ∇f(θ) + α m, m = θᵗ − θᵗ⁻¹",
        "315: biased to continue in the direction of the previous update; the printed sign is "
        "right only if m is the previous step reversed, θᵗ⁻¹ − θᵗ, and m is not defined",
    )
    yield words("335", "the date of the citation", "April. 4 Citation: 2017 Goh, 2017").damage(
        "April 4, 2017; citation: Goh, 2017", "two columns were read as one line"
    )


@example("000", "383-432", "Optimising inputs instead of parameters")
def inputs(ad):
    """A step uphill for unit j of a layer with the regulariser R, and the gradient of a target
    class's log-probability by an adversarial r. On a random network.
    """
    normal = normals(4)
    W, V = normal(3, 4), normal(2, 3)
    x, eta, weight = normal(4), 0.1, 0.01

    def hidden(x):
        return layers.tanh(layers.linear(x, W))

    h = np.tanh(W @ x)

    def objective(x):
        return hidden(x)[1] - weight * jnp.sum(x * x)

    by_hand = (1 - h[1] ** 2) * W[1] - 2 * weight * x
    yield formula(
        "395, 409",
        "x + η ∂(h_j + λ R)/∂x, R = −‖x‖²",
        "x + η ∂(h_j + λ R)/∂x",
        x + eta * by_hand,
        x + eta * ad.grad(objective)(x),
    )
    yield words("395, 409", "x + η ∂(…)/∂x", "column + row").convention(
        "x + η (∂(…)/∂x)ᵀ, η > 0",
        "as at 20; this step goes uphill, so η is positive here "
        "and R a reward, where the example's η = −0.2 goes downhill",
    )

    def log_probability(r, target=0):
        return layers.log_softmax(layers.linear(hidden(x + r), V))[target]

    yield formula(
        "424",
        "∂ log p(target | x + r)/∂r at r = 0",
        "(e_target − p)ᵀ V diag(1 − h²) W",
        (np.array([1.0, 0.0]) - softmax(V @ h)) @ V @ np.diag(1 - h**2) @ W,
        ad.grad(log_probability)(np.zeros(4)),
    )
    yield words("389", "how a score changes with the image", "∂y_j/∂x_j ∂x").damage(
        "∂y_j/∂x", "two overlaid formulas were read as one"
    )
    yield words("416", "the year of Szegedy et al.", "2914").slip("2014", "430 prints 2014")


EXAMPLES = (tanh_network, matrix_calculus, linear_layer, graphs, optimisation, inputs)
