import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers, models
from tests.agreement import assert_close
from tests.models.drawn import drawn

SMALL = {"image": (5, 7, 2), "patch": (2, 3), "width": 4, "heads": 2, "blocks": 1, "hidden": 3}


@pytest.mark.parametrize("entry_norm", [False, True])
def test_vit_is_its_formula(entry_norm):
    options = {"attention_bias": entry_norm, "head_activation": "tanh", "epsilon": 1e-3}
    apply, params = drawn(models.vit, outputs=3, entry_norm=entry_norm, **options, **SMALL)
    assert (params.blocks[0].attention[0].b is None) == (not entry_norm)
    x = np.random.default_rng(1).normal(size=(5, 7, 2))

    def norm(h, p):
        return layers.layer_norm(h, *p, epsilon=1e-3)

    @jax.jit
    def both(params):
        corners = [(0, 0), (0, 3), (2, 0), (2, 3)]  # the fifth row and the seventh column are left
        patches = [x[i : i + 2, j : j + 3].reshape(-1) for i, j in corners]
        E = params.patch.W.reshape(-1, 4)
        h = jnp.stack([params.token, *(p @ E + params.patch.b for p in patches)]) + params.place
        h = h if params.entry is None else norm(h, params.entry)
        (block,) = params.blocks
        first, second = block.norms
        h = h + layers.multi_head_attention(norm(h, first), *block.attention, heads=2)
        inner = layers.gelu(layers.linear(norm(h, second), *block.enter))
        h = h + layers.linear(inner, *block.leave)
        z = jnp.tanh(layers.linear(norm(h[0], params.norm), *params.head))
        return apply(params, x), z

    assert_close(*both(params))


def test_biases_are_options():
    _, with_all = models.shapes("vit", **SMALL)
    _, without = models.shapes("vit", patch_bias=False, head_bias=False, outputs=1000, **SMALL)
    assert (without.patch.b, without.head.b) == (None, None)
    assert models.count(with_all) - models.count(without) == 4 + 1000
    assert models.shapes("vit", outputs=None, **SMALL)[1].head is None


def test_blocks_are_scopes_and_nodes():
    apply, params = models.shapes("vit", outputs=3, **SMALL)
    graph = fg.trace(apply)(params, jnp.ones((1, 5, 7, 2)))
    (convolution,) = graph.find(fg.at(primitive="conv_general_dilated"))
    assert graph.find(fg.at(scope="embedding", primitive="conv_general_dilated")) == [convolution]
    for scope in ("block0/attention", "block0/mlp"):
        assert graph.find(fg.at(scope=scope, primitive="dot_general"))
    (tokens,) = graph.find(fg.at(name="tokens"))
    assert tokens.outputs[0].shape == (1, 5, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 6}, r"sizes not above H and W, got image \(5, 7, 2\) and patch \(6, 6\)"),
        ({"patch": (1, 2, 3)}, "patch one or two sizes"),
        ({"image": (5, 7)}, r"image must be \(H, W, C\)"),
        ({"heads": 3}, "heads must divide width=4, got 3"),
        ({"blocks": 0}, "blocks must be positive integers, got 0"),
        ({"outputs": 0}, "outputs must be positive integers, got 0"),
        ({"entry_norm": None}, "entry_norm must be True or False, got None"),
        ({"head_activation": "rleu"}, "activation must be a function or one of identity"),
    ],
)
def test_sizes_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        models.vit(**SMALL | options, key=jax.random.key(0))


def test_images_of_another_size_are_refused():
    apply, params = models.shapes("vit", **SMALL)
    with pytest.raises(ValueError, match=r"x must be images \[\.\.\., H, W, C\] of \(5, 7, 2\)"):
        jax.eval_shape(apply, params, jnp.ones((7, 5, 2)))


def test_images_are_taken_in_the_format_of_the_parameters():
    apply, params = models.shapes("vit", outputs=3, **SMALL, dtype=jnp.bfloat16)
    for dtype in (jnp.float32, jnp.float64, jnp.bfloat16):
        assert jax.eval_shape(apply, params, jnp.ones((5, 7, 2), dtype)).dtype == jnp.bfloat16
