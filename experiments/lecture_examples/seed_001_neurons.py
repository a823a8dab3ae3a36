"""Seed 001, an assignment with solutions: artificial neurons, logistic and softmax regression."""

from itertools import combinations
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lecture_examples.record import (
    example,
    formula,
    normals,
    shown,
    sigmoid,
    softmax,
    words,
)
from fungrad import layers, losses


@example("001", "9-29", "Neurons 1 to 6: the bias trick, the boundary, two units")
def neuron(ad):
    """`θᵀ[1, x]` is positive on one side of the decision boundary. Its gradient by x is the normal
    vector n = (θ₁, θ₂), so the boundary lies at the signed distance `−θ₀/‖n‖` from the origin.
    """
    theta, x = np.array([0.1, 0.2, 0.3]), np.array([1.0, 1.0, 1.0])
    yield shown("13", "0.1 + 0.2 · 1 + 0.3 · 1", "0.6", layers.linear(x, theta[None]))

    def g(x):
        return 1 + 2 * x[0] + 3 * x[1]

    n = ad.grad(g)(np.zeros(2))
    unit, distance = n / np.linalg.norm(n), -g(np.zeros(2)) / np.linalg.norm(n)
    yield words("21", "the third component of θ", "θ₃ = 3").slip("θ₂ = 3", "they are θ₀, θ₁, θ₂")
    yield shown("22", "n = (θ₁, θ₂)", "2 3", n)
    with_bias = np.array([2.0, 3.0]) / sqrt(14)
    yield formula("23", "n̂", "(2, 3)/√(1² + 2² + 3²)", with_bias, unit).slip(
        "(2, 3)/√13 = (0.5547, 0.8321)", "θ₀ is no component of n and does not enter its norm"
    )
    evaluated = np.array([sqrt(6) / 3, sqrt(6) / 3])
    yield formula("23", "n̂, evaluated", "(√6/3, √6/3)", evaluated, unit).slip(
        "(0.5547, 0.8321)",
        "nor the seed's own (2, 3)/√14 = (0.5345, 0.8018), perhaps misread from (√14/7, 3√14/14)",
    )
    yield formula("24", "d", "−θ₀/√(θ₀² + θ₁² + θ₂²)", -1 / sqrt(14), distance).slip(
        "−1/√13 = −0.2774", "θ₀ does not enter the norm"
    )
    yield formula("24", "d, evaluated", "−√6/6", -sqrt(6) / 6, distance).slip(
        "−0.2774", "nor the seed's own −1/√14 = −0.2673, perhaps misread from −√14/14"
    )
    yield shown("29", "step(0.0001)", "1", layers.step(jnp.array(0.0001)))
    yield shown("29", "1/(1 + exp(−0.0001))", "0.500025", layers.sigmoid(jnp.array(0.0001)))


@example("001", "31-117", "Neurons 7 to 14: logistic regression")
def logistic(ad):
    """`P(y = 1 | x) = σ(θᵀx)`, and binary cross-entropy is the negative log-likelihood. On random
    numbers: 6 observations with 3 features.
    """
    normal = normals(5)
    X, theta, eta = normal(6, 3), normal(3), 0.1
    y = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])

    def loss(theta, X, y):
        return jnp.sum(losses.binary_cross_entropy(X @ theta, y))

    slope_of_loss = ad.grad(loss)
    sigma, gradient = sigmoid(X @ theta), slope_of_loss(theta, X, y)
    yield words("33", "the second case of h", "P(y=0|x)/P(y=0|x) < 1").slip(
        "P(y=1|x)/P(y=0|x) < 1", "a ratio of equal terms is 1; 37 has the right one"
    )
    yield formula(
        "53",
        "P(y = 1 | x)",
        "exp(θᵀx)/(1 + exp(θᵀx))",
        np.exp(X @ theta) / (1 + np.exp(X @ theta)),
        layers.sigmoid(X @ theta),
    )
    yield formula(
        "55", "P(y = 1 | x)", "1/(1 + exp(θᵀx))", 1 / (1 + np.exp(X @ theta)), sigma
    ).slip("1/(1 + exp(−θᵀx))", "dividing 53 by exp(θᵀx) leaves exp(−θᵀx) below the line")
    yield words("57, 59, 99", "the argument of the sigmoid", "sigmoid(x)").slip(
        "sigmoid(θᵀx)", "39 models the log of the ratio as θᵀx, not as x"
    )
    a = X[:, 0]
    slope = ad.grad(lambda a: jnp.sum(layers.sigmoid(a)))(a)
    log_slope = ad.grad(lambda a: jnp.sum(jnp.log(layers.sigmoid(a))))(a)
    yield formula(
        "65",
        "d sigmoid(a)/da",
        "σ(a)(1 − σ(a))",
        sigmoid(a) * (1 - sigmoid(a)),
        slope,
    )
    yield formula("73", "d log(sigmoid(a))/da", "1 − σ(a)", 1 - sigmoid(a), log_slope)
    yield words("77", "the gradient in the update", "∇I").damage("∇J", "75 has J")
    errors = ad.grad(lambda theta: jnp.sum(losses.squared_error(layers.step(X @ theta), y)))
    yield formula("81", "the gradient of the number of errors", "0", np.zeros(3), errors(theta))
    likelihood = np.prod(sigma**y * (1 - sigma) ** (1 - y))
    yield formula(
        "88-94",
        "binary cross-entropy",
        "−log Π P(y=1|x)^y P(y=0|x)^(1−y)",
        -np.log(likelihood),
        jax.jit(loss)(theta, X, y),
    )
    yield words("92, 164-170", "the observation", "h(x), P(yᵢ = j | x)").slip(
        "h(xᵢ), P(yᵢ = j | xᵢ)", "i runs over the observations"
    )
    yield words("101, 105", "the middle variable of the chain rule", "d/dx σ(θᵀx) · …").slip(
        "d/d(θᵀx) σ(θᵀx) · d(θᵀx)/dθ",
        "x is no function of θ; the results at 103 and 107 are right",
    )
    by_theta = ad.jacobian(lambda theta: jnp.log(layers.sigmoid(X @ theta)))(theta)
    yield formula("103", "∂ log h/∂θ", "(1 − σ(θᵀx)) x", (1 - sigma)[:, None] * X, by_theta)
    by_theta = ad.jacobian(lambda theta: layers.sigmoid(X @ theta))(theta)
    yield formula(
        "107", "∂h/∂θ", "σ(θᵀx)(1 − σ(θᵀx)) x", (sigma * (1 - sigma))[:, None] * X, by_theta
    )
    yield formula("111", "∂l/∂θ", "−Σ xᵢ (yᵢ − σ(θᵀxᵢ))", -(y - sigma) @ X, gradient)
    yield words("111, 115", "a subscript", "σᵢ(θᵀxᵢ), exp(−θᵢᵀxᵢ)").slip(
        "σ(θᵀxᵢ), exp(−θⱼᵀxᵢ)", "there is one σ, and i names the observation, j the step"
    )
    yield formula(
        "115",
        "the update of θ",
        "θ − η Σ (σ(θᵀxᵢ) − yᵢ) xᵢ",
        theta - eta * (sigma - y) @ X,
        theta - eta * gradient,
    )
    yield words("117", "the amount of change", "the input times the summed errors").slip(
        "the sum of the errors, each times its own input", "as 115 has it"
    )
    easy = np.array([[1.0, 2.0, 0.5]]), np.array([1.0])
    one = slope_of_loss(np.array([0.5, 1.0, 1.0]), *easy)
    yield formula(
        "117", "∂l/∂θ of an observation that is classified without error", "0", np.zeros(3), one
    ).slip(
        "(σ(θᵀx) − y) x, small but not 0",
        "a sigmoid never reaches 0 or 1; the remark is true of the step unit",
    )


@example("001", "119-158", "Neurons 15 to 18: several classes, softmax and its logarithm")
def several_scores(ad):
    """`softmax(Θx)` with one row of Θ per class; derivatives by the scores z and by the rows θᵢ. On
    random numbers: 3 classes, 4 features.
    """
    pairs = len(list(combinations(range(4), 2)))
    yield formula(
        "123", "one-against-one models for k = 4 classes", "k(k + 1)/2", 4 * 5 / 2, pairs
    ).slip("k(k − 1)/2 = 6", "there are k(k − 1)/2 pairs of different classes")
    yield words("126", "the sum of k sigmoids", "more than 1").slip(
        "anything between 0 and k", "for z = (−2, −3, −4) the sum is 0.185"
    )
    normal = normals(6)
    Theta, x = normal(3, 4), normal(4)
    z = Theta @ x
    p, delta = softmax(z), np.eye(3)

    by_z = ad.jacobian(layers.softmax)(z)
    yield formula(
        "138", "∂softmax(zⱼ)/∂zᵢ", "softmax(zⱼ)(δᵢⱼ − softmax(zᵢ))", p[:, None] * (delta - p), by_z
    )
    yield formula(
        "140",
        "∂softmax(zⱼ)/∂zᵢ",
        "softmax(zⱼ) · ∂softmax(zⱼ)/∂zᵢ · ∂zⱼ/∂zᵢ",
        p[:, None] * by_z * delta,
        by_z,
    ).slip(
        "∂softmax(zⱼ)/∂θᵢ = ∂softmax(zⱼ)/∂zᵢ · ∂zᵢ/∂θᵢ",
        "a factor softmax(zⱼ) too many, and the chain rule goes through zᵢ = θᵢᵀx",
    )
    by_theta = ad.jacrev(lambda Theta: layers.softmax(layers.linear(x, Theta)))(Theta)
    slope = (p[:, None] * (delta - p))[:, :, None] * x
    yield formula(
        "144",
        "∂softmax(zⱼ)/∂θᵢ",
        "softmax(zⱼ)(δᵢⱼ − softmax(zᵢ)) x δᵢⱼ",
        slope * delta[:, :, None],
        by_theta,
    ).slip(
        "softmax(zⱼ)(δᵢⱼ − softmax(zᵢ)) x",
        "a δ too many: with it the terms i ≠ j would vanish; 142 differentiates by θᵢ, not zᵢ",
    )
    yield formula("146", "∂softmax(zⱼ)/∂θᵢ", "softmax(zⱼ)(δᵢⱼ − softmax(zᵢ)) x", slope, by_theta)
    yield formula(
        "152",
        "log softmax(zⱼ)",
        "zⱼ − log Σ exp(zᵢ)",
        z - np.log(np.sum(np.exp(z))),
        layers.log_softmax(z),
    )
    yield words("150", "the numerator's logarithm", "log(exp(zᵢ))").slip(
        "log(exp(zⱼ))", "i is bound by the sum"
    )
    yield words("154", "the left side", "(none)").damage(
        "∂ log softmax(zⱼ)/∂θᵢ = …", "the line does not continue 152: it differentiates it"
    )
    by_theta = ad.jacrev(lambda Theta: layers.log_softmax(layers.linear(x, Theta)))(Theta)
    yield formula(
        "156",
        "∂ log softmax(zⱼ)/∂θᵢ",
        "1/softmax(zⱼ) · softmax(zⱼ)(δᵢⱼ − softmax(zᵢ)) x",
        slope / p[:, None, None],
        by_theta,
    )
    yield formula(
        "158",
        "∂ log softmax(zⱼ)/∂θᵢ",
        "(δᵢⱼ − softmax(θⱼᵀx)) x",
        (delta - p[:, None])[:, :, None] * x,
        by_theta,
    ).slip("(δᵢⱼ − softmax(θᵢᵀx)) x", "the index of 156 is i")


@example("001", "160-184", "Neuron 19: categorical cross-entropy")
def cross_entropy(ad):
    """The negative log-likelihood of softmax regression, its gradient by the row θⱼ of class j, and
    the update. On random numbers: 5 observations, 4 features, 3 classes.
    """
    normal = normals(7)
    X, Theta, labels, eta = normal(5, 4), normal(3, 4), np.array([0, 2, 1, 2, 2]), 0.1
    truth, p = np.eye(3)[labels], softmax(X @ Theta.T)

    def loss(Theta):
        return jnp.sum(losses.cross_entropy(layers.linear(X, Theta), labels))

    gradient = ad.grad(loss)(Theta)
    yield formula(
        "172",
        "l(θ)",
        "−Σᵢ Σⱼ 1(yᵢ = j) log h(xᵢ)",
        -np.sum(truth * np.log(p)),
        jax.jit(loss)(Theta),
    )
    yield formula(
        "176, row 5",
        "∂l/∂θⱼ",
        "−Σᵢ 1(yᵢ = j)(1 − softmax(θⱼᵀx)) xᵢ",
        -(truth * (1 - p)).T @ X,
        gradient,
    ).slip(
        "−Σᵢ Σₗ 1(yᵢ = l)(δₗⱼ − softmax(θⱼᵀxᵢ)) xᵢ",
        "the sum's class and the derivative's are both called j, and the terms l ≠ j are lost",
    )
    summed = np.broadcast_to(-np.sum(truth - p, axis=1) @ X, (3, 4))
    yield formula(
        "176, row 6", "∂l/∂θⱼ", "−Σᵢ Σⱼ (1(yᵢ = j) − softmax(θⱼᵀx)) xᵢ", summed, gradient
    ).slip(
        "−Σᵢ (1(yᵢ = j) − softmax(θⱼᵀxᵢ)) xᵢ",
        "summed over the classes, truth minus probability is 1 − 1 = 0; row 7 drops the sum",
    )
    yield formula(
        "176, row 7", "∂l/∂θⱼ", "Σᵢ (softmax(θⱼᵀxᵢ) − 1(yᵢ = j)) xᵢ", (p - truth).T @ X, gradient
    )
    yield formula(
        "182",
        "the update of θⱼ",
        "θⱼ − η Σᵢ (softmax(θⱼᵀxᵢ) − 1(yᵢ = j)) xᵢ",
        Theta - eta * (p - truth).T @ X,
        Theta - eta * gradient,
    )
    yield words("180, 184", "the new value of θⱼ", "θ_{j+1}").slip(
        "θⱼ at the next step", "j names the class here, so j + 1 is another class"
    )
    yield formula(
        "184",
        "∂l/∂θⱼ, with the truth as the text has it",
        "the truth is 0 if yᵢ = j, 1 otherwise",
        (p - (1 - truth)).T @ X,
        gradient,
    ).slip("the truth is 1 if yᵢ = j, 0 otherwise", "1(yᵢ = j) is 1 where yᵢ = j")


EXAMPLES = (neuron, logistic, several_scores, cross_entropy)
