import sys
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fungrad as fg
from experiments.common import networks, photos
from experiments.common.command import ExperimentError


@pytest.fixture
def mine(monkeypatch):
    """A module of the user's, with a model of every kind."""
    module = types.ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    shape = (8, 8, 1)

    def plain():
        return {"model": lambda x: fg.name(x.sum((1, 2)), "sums"), "shape": shape}

    def pair():
        return {"model": fg.models.cnn(shape, (4,), 3, key=jax.random.key(0)), "shape": shape}

    def flax():
        class Net(nnx.Module):
            def __init__(self):
                self.conv = nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0))

            def __call__(self, x):
                return nnx.relu(self.conv(x)).mean((1, 2))

        return {"model": Net(), "shape": shape}

    def equinox():
        net = eqx.nn.Linear(64, 3, key=jax.random.key(0))
        return {"model": jax.vmap(lambda x: net(x.ravel())), "shape": shape}

    for make in (plain, pair, flax, equinox):
        setattr(module, make.__name__, make)
    module.nothing = lambda: 3
    return module


@pytest.mark.parametrize(
    ("kind", "nodes", "outputs"),
    [
        ("plain", ("sums",), 1),
        ("pair", ("h1", "logits"), 3),
        ("flax", ("conv_general_dilated",), 4),
        ("equinox", (), 3),
    ],
)
def test_a_users_own_model(mine, kind, nodes, outputs):
    network = networks.own(f"mine:{kind}")
    assert network.nodes == nodes
    assert len(network.classes) == outputs
    assert network.model(jnp.ones((2, *network.shape))).shape == (2, outputs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine:absent", "model: 'mine:absent' cannot be imported"),
        ("nowhere.at_all:model", "cannot be imported: No module named"),
        ("mine:nothing", r"returned int; expected a function of a batch"),
    ],
)
def test_what_is_no_model(mine, name, message):
    with pytest.raises(ExperimentError, match=message):
        networks.own(name)


def test_photographs(tmp_path):
    np.testing.assert_array_equal(networks.photograph("cat"), photos.photo("cat"))
    with pytest.raises(ExperimentError, match=r"photo: unknown name 'ct'\. Did you mean 'cat'"):
        networks.photograph("ct")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ExperimentError, match="cannot be read as an image"):
        networks.photograph(str(tmp_path / "text.png"))
