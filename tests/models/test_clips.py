import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers, models
from tests.agreement import assert_close
from tests.models.drawn import drawn

TOWER = {"width": 4, "heads": 2, "blocks": 1, "hidden": 3}
TEXT = {"vocabulary": 10, "positions": 5, "end": 7, **TOWER}
IMAGE = {"image": (4, 4, 1), "patch": 2, **TOWER}
TOKENS = np.array([[1, 7, 9, 7, 0], [3, 2, 1, 0, 7], [3, 2, 1, 0, 4]])


def test_text_tower_is_its_formula():
    apply, params = drawn(models.text_tower, outputs=3, **TEXT)

    @jax.jit
    def formula(params, row, end):
        h = jnp.stack([params.embedding[t] for t in row]) + params.place
        (block,) = params.blocks
        first, second = block.norms
        h = h + layers.multi_head_attention(
            layers.layer_norm(h, *first), *block.attention, heads=2, mask=jnp.tri(5, dtype=bool)
        )
        inner = layers.quick_gelu(layers.linear(layers.layer_norm(h, *second), *block.enter))
        h = h + layers.linear(inner, *block.leave)
        return params.head.W @ layers.layer_norm(h, *params.norm)[end]

    z = jax.jit(apply)(params, TOKENS)
    largest, _ = models.shapes("text_tower", outputs=3, **TEXT | {"end": None})
    same = jax.jit(largest)(params, TOKENS)
    for row, of_end, of_largest, first, place in zip(
        TOKENS, z, same, (1, 4, 0), (2, 4, 4), strict=True
    ):
        assert_close(of_end, formula(params, row, first))
        assert_close(of_largest, formula(params, row, place))


def test_what_follows_the_end_changes_nothing():
    apply, params = drawn(models.text_tower, outputs=None, **TEXT)
    apply = jax.jit(apply)
    assert_close(apply(params, TOKENS[:1, :2]), apply(params, TOKENS[:1]))
    assert apply(params, TOKENS[0]).shape == (4,)


@pytest.fixture(scope="module")
def clip():
    return drawn(models.clip, 3, image=IMAGE, text=TEXT)


def test_clip_is_the_cosine_of_its_towers(clip):
    apply, params = clip
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 1))
    usual = {"activation": "quick_gelu", "epsilon": 1e-5, "entry_norm": True}
    look, _ = models.shapes("vit", outputs=3, patch_bias=False, head_bias=False, **usual, **IMAGE)
    read, _ = models.shapes("text_tower", outputs=3, **TEXT)

    @jax.jit
    def towers(params):
        return apply(params, x, TOKENS), look(params.image, x), read(params.text, TOKENS)

    found, image, text = towers(params)
    image, text = (np.asarray(z) / np.linalg.norm(z, axis=1)[:, None] for z in (image, text))
    assert_close(found.image, image)
    assert_close(found.text, text)
    assert_close(found.logits, np.exp(params.logit_scale) * image @ text.T)


def test_a_field_that_was_not_asked_for_is_none(clip):
    apply, params = clip
    x = jnp.ones((2, 4, 4, 1))
    found = jax.eval_shape(apply, params, x, None)
    assert (found.image.shape, found.text, found.logits) == ((2, 3), None, None)
    found = jax.eval_shape(apply, params, None, TOKENS)
    assert (found.image, found.text.shape, found.logits) == (None, (3, 3), None)
    with pytest.raises(ValueError, match="images or tokens must be given, got None for both"):
        apply(params, None, None)


def test_nodes_and_scopes_of_the_towers(clip):
    apply, params = clip
    graph = fg.trace(apply)(params, jnp.ones((1, 4, 4, 1)), TOKENS)
    for tower in ("image", "text"):
        for name in ("tokens", "block0", "pooled", "embedding"):
            assert len(graph.find(fg.at(name=f"{tower}/{name}"))) == 1
        assert graph.find(fg.at(scope=f"{tower}/block0/attention", primitive="dot_general"))
    for name in ("image", "text", "logits"):
        assert len(graph.find(fg.at(name=name))) == 1


def test_the_configuration_builds_it_again(clip):
    apply, params = clip
    again, shapes = models.shapes(**apply.config)
    assert (again, hash(again)) == (apply, hash(apply))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda p: p.shape, shapes)
    assert jax.eval_shape(lambda: models.clip(**IMAGE_AND_TEXT, key=jax.random.key(0))[1]) == shapes
    assert again != models.shapes(**apply.config | {"logit_scale": 1.0})[0]


IMAGE_AND_TEXT = {"outputs": 3, "image": IMAGE, "text": TEXT}


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.ones((2, 6), int), r"tokens must be \[\.\.\., T\] with 1 ≤ T ≤ 5, got int64\[2,6\]"),
        (np.ones((2, 0), int), r"tokens must be \[\.\.\., T\]"),
        (np.array(3), r"tokens must be \[\.\.\., T\]"),
        (np.array([[10, 2]]), r"tokens must be in \[0, 10\)"),
    ],
)
def test_tokens_are_checked(tokens, message):
    apply, params = drawn(models.text_tower, outputs=3, **TEXT)
    with pytest.raises(ValueError, match=message):
        apply(params, tokens)
    with pytest.raises(TypeError, match="tokens must be an integer array"):
        apply(params, np.ones((1, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads must divide width=4, got 3"),
        ({"vocabulary": 0}, "vocabulary must be positive integers"),
        ({"outputs": -1}, "outputs must be positive integers"),
        ({"activation": "rleu"}, "activation must be a function or one of identity"),
    ],
)
def test_sizes_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        models.text_tower(**TEXT | options, key=jax.random.key(0))


# ---------------------------------------------------------------------------- the tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz!'12"
MERGES = ["c a", "ca t</w>", "p h", "ph o", "t o</w>", "pho to</w>", "' s</w>"]
WORDS = [*LETTERS, *(f"{c}</w>" for c in LETTERS), *("".join(m.split()) for m in MERGES)]
IDS = {word: i for i, word in enumerate([*WORDS, "<|startoftext|>", "<|endoftext|>"])}
START, END = IDS["<|startoftext|>"], IDS["<|endoftext|>"]
# As CLIPTokenizer of transformers 5.23 has them; a letter outside the vocabulary is an end token.
TEXTS = {
    "A photo of a cat": ["a</w>", "photo</w>", "o", "f</w>", "a</w>", "cat</w>"],
    " it's  2 CATS\n!!": ["i", "t</w>", "'s</w>", "2</w>", "ca", "t", "s</w>", "!", "!</w>"],
    "": [],
    "12 don't": ["1</w>", "2</w>", "d", "o", "n</w>", "'", "t</w>"],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(IDS), "utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", "utf-8")
    return tmp_path


def test_texts_become_padded_ids(folder):
    tokenizer = models.tokenizer(folder)
    ids = tokenizer(list(TEXTS))
    assert (ids.shape, ids.dtype) == ((len(TEXTS), 77), np.int32)
    for row, words in zip(ids, TEXTS.values(), strict=True):
        text = [START, *(IDS[word] for word in words), END]
        assert row.tolist() == text + [END] * (77 - len(text))
    assert (tokenizer("") == ids[2:3]).all()


def test_long_texts_are_cut_before_their_end(folder):
    ids = models.tokenizer(folder, length=5)(["a photo of a cat", "cat"])
    assert ids[0].tolist() == [START, IDS["a</w>"], IDS["photo</w>"], IDS["o"], END]
    assert ids[1].tolist() == [START, IDS["cat</w>"], END, END, END]


@pytest.mark.parametrize("pad", ["!", {"content": "!", "lstrip": False}])
def test_tokenizer_json_and_another_padding(folder, pad):
    ids = models.tokenizer(folder)(list(TEXTS))
    encoding = models.tokenizer(folder).encoding
    encoding.enable_truncation(3)
    encoding.save(str(folder / "tokenizer.json"))
    (folder / "vocab.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad}), "utf-8")
    padded = models.tokenizer(folder)(list(TEXTS))
    for row, with_ends in zip(padded, ids, strict=True):
        text = with_ends[: with_ends.tolist().index(END) + 1].tolist()
        assert row.tolist() == text + [IDS["!"]] * (77 - len(text))


def test_what_the_tokenizer_refuses(folder):
    with pytest.raises(TypeError, match="texts must be strings, got 3"):
        models.tokenizer(folder)(["cat", 3])
    with pytest.raises(ValueError, match="length must be at least 2"):
        models.tokenizer(folder, length=1)
    (folder / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold tokenizer\.json, or vocab\.json and m"):
        models.tokenizer(folder)
