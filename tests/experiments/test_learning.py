import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from experiments.common import data, learning
from experiments.common.command import ExperimentError

PAIRS = [
    (model, name)
    for model in learning.MODELS
    for name in data.LOADERS
    if model not in learning.IMAGE_MODELS or name == "digits"
]


@pytest.mark.parametrize(("model", "name"), PAIRS)
def test_every_model_fits_every_data_set_that_it_may(model, name):
    examples = learning.load_for(model, name).first(3)
    apply, params = learning.build(model, examples, (5,), jax.random.key(0))
    scores = jax.eval_shape(apply, params, examples.test.x)
    assert (scores.shape, scores.dtype) == ((3, examples.outputs), jnp.float32)
    cost = jax.eval_shape(learning.cost_of(apply, examples), params, examples.train)
    assert (cost.shape, cost.dtype) == ((), jnp.float32)


def test_the_cost_is_the_mean_loss():
    examples = data.Examples(jnp.zeros((4, 2)), jnp.array([0, 1, 1, 0]))
    wine, diabetes = data.load("wine"), data.load("diabetes")

    def constant(params, x):
        return jnp.broadcast_to(params, (len(x), len(params)))

    classes = learning.cost_of(constant, wine)(jnp.zeros(2), examples)
    np.testing.assert_allclose(classes, np.log(2), rtol=1e-6)
    values = data.Examples(examples.x, jnp.array([0.0, 2.0, 4.0, 2.0]))
    assert learning.cost_of(constant, diabetes)(jnp.array([2.0]), values) == 2.0


def test_measures_of_classes_and_of_values():
    wine, diabetes = data.load("wine"), data.load("diabetes")

    def table(params, x):
        return params

    part = data.Examples(wine.test.x[:4], jnp.array([0, 1, 2, 2]))
    measured = learning.measures(table, 9.0 * jnp.eye(4)[:, :3], wine, part)
    assert measured["accuracy"] == 0.75

    part = data.Examples(diabetes.test.x[:2], jnp.array([-1.0, 1.0]))
    measured = learning.measures(table, jnp.array([[-1.0], [0.0]]), diabetes, part)
    assert measured["loss"] == 0.5
    np.testing.assert_allclose(measured["rmse"], diabetes.scale * 0.5**0.5, rtol=1e-6)
    np.testing.assert_allclose(measured["r2"], 0.5, rtol=1e-6)


def test_confusion_matrix_has_a_row_per_true_class():
    matrix = learning.confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


# optax announces which of its optimizers will change; they can be asked for until they do.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:optax")
@pytest.mark.parametrize("name", fg.descent.optimizers())
def test_every_optimizer_can_be_made_by_its_name(name):
    assert learning.optimizer(name) is not None
    assert learning.optimizer("sgd", 0.5, momentum=0.9) is not None


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            lambda: learning.load_for("mlpp", "iris"),
            "model: unknown name 'mlpp'. Did you mean 'mlp'",
        ),
        (
            lambda: learning.load_for("mlp", "mnist"),
            "data: unknown name 'mnist'.*Known: breast_canc",
        ),
        (
            lambda: learning.load_for("cnn", "mnist"),
            "data: unknown name 'mnist'.*Known: breast_canc",
        ),
        (
            lambda: learning.load_for("cnn", "iris"),
            "model: 'cnn' needs images, and 'iris' has none",
        ),
        (lambda: learning.optimizer("adm"), "optimizer: unknown name 'adm'. Did you mean 'adam'"),
        (lambda: learning.optimizer("sgd", -1.0), "learning_rate: got -1.0, expected a positive"),
        (lambda: learning.optimizer("adam", 0.1, 0.9), "momentum: the optimizer 'adam' takes none"),
        (lambda: learning.optimizer("newton_cg", 0.1), "'newton_cg' takes none"),
        (
            lambda: learning.build("mlp", data.load("iris"), (0,), jax.random.key(0)),
            r"hidden: got \(0,\), expected widths of at least 1",
        ),
    ],
)
def test_bad_choices(choice, message):
    with pytest.raises(ExperimentError, match=message):
        choice()
