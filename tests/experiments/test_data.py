import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import data
from experiments.common.command import ExperimentError

SIZES = {
    "iris": (150, 4, 3),
    "digits": (1797, 64, 10),
    "wine": (178, 13, 3),
    "breast_cancer": (569, 30, 2),
    "diabetes": (442, 10, 1),
}
by_name = pytest.mark.parametrize("name", data.LOADERS)


@by_name
def test_sizes_and_types(name):
    examples, columns, outputs = SIZES[name]
    loaded = data.load(name)
    assert len(loaded.train.y) + len(loaded.test.y) == examples
    assert loaded.train.x.shape == (len(loaded.train.y), columns)
    assert loaded.test.x.shape == (len(loaded.test.y), columns)
    assert len(loaded.features) == columns
    assert loaded.outputs == outputs
    assert loaded.train.x.dtype == jnp.float32
    assert loaded.train.y.dtype == (jnp.float32 if loaded.regression else jnp.int32)


@by_name
def test_training_columns_are_standardised(name):
    x = np.asarray(data.load(name).train.x, np.float64)
    deviation = x.std(axis=0)
    assert np.abs(x.mean(axis=0)).max() < 1e-6
    assert np.all((np.abs(deviation - 1) < 1e-5) | (deviation == 0))
    assert name == "digits" or np.all(deviation > 0)  # some pixels of the digits are never inked


@by_name
def test_the_same_split_every_time(name):
    first, again, other = data.load(name), data.load(name), data.load(name, seed=1)
    np.testing.assert_array_equal(first.test.x, again.test.x)
    np.testing.assert_array_equal(first.train.y, again.train.y)
    assert not np.array_equal(first.test.x, other.test.x)


@pytest.mark.parametrize("name", ["iris", "digits", "wine", "breast_cancer"])
def test_the_split_keeps_the_share_of_each_class(name):
    loaded = data.load(name)
    train, test = (np.bincount(part.y) for part in (loaded.train, loaded.test))
    assert np.abs(test - 0.25 * (train + test)).max() < 1


def test_no_example_is_in_both_parts():
    loaded = data.load("digits")
    assert not set(map(bytes, np.asarray(loaded.train.x))) & set(
        map(bytes, np.asarray(loaded.test.x))
    )


def test_a_regression_knows_its_unit():
    loaded = data.load("diabetes")
    y = np.concatenate([loaded.train.y, loaded.test.y]) * loaded.scale + loaded.center
    assert (y.min().round(), y.max().round()) == (25, 346)  # progression in the original data
    assert abs(np.mean(loaded.train.y)) < 1e-6


def test_digits_as_images():
    images, columns = data.load("digits", images=True), data.load("digits")
    assert images.train.x.shape == (1347, 8, 8, 1)
    assert (images.train.x.min(), images.train.x.max()) == (0, 1)
    np.testing.assert_array_equal(images.train.y, columns.train.y)


def test_first_keeps_a_few_examples():
    few = data.load("wine").first(5)
    assert few.train.x.shape == few.test.x.shape == (5, 13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "irs"}, "data: unknown name 'irs'. Did you mean 'iris'. Known: breast_cancer, d"),
        ({"name": "iris", "images": True}, "data: 'iris' has no images"),
        (
            {"name": "iris", "test_fraction": 1.5},
            "test_fraction: got 1.5, expected between 0 and 1",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ExperimentError, match=message):
        data.load(**arguments)
