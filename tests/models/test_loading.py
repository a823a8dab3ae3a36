"""Published models equal transformers', whose numbers published.json records."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import fungrad as fg
from fungrad import models
from tests.agreement import assert_close
from tests.models.published import RECORD, images, published, summary, tensor, weights_of, write

CASES = json.loads(RECORD.read_text("utf-8"))
RESNET, VIT, CLIP = (CASES[name] for name in ("resnet, basic", "vit, scores", "clip, first end"))


def tensors_of(case):
    return {name: tensor(name, shape) for name, shape in case["shapes"].items()}


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_transformers(name, tmp_path):
    case = CASES[name]
    folder = published(tmp_path, case, parts=3 if "features" in name else 1)
    apply, params = models.load(folder, dtype=float)
    tokens = () if "tokens" not in case else (np.array(case["tokens"]),)

    def output(x):
        out = apply(params, x, *tokens)
        return (out.logits, out.text) if tokens else (out, None)

    def cost(x):
        out, _ = output(x)
        return (out * weights_of(out)).sum()

    @jax.jit
    def found(x):
        return output(x), fg.grad(cost)(x)

    (out, text), gradient = found(images(case))
    expected = np.array(case["out"])
    assert_close(out, expected, 1e-10)
    assert_close(summary(np.asarray(gradient)), np.array(case["gradient"]), 1e-9)
    if tokens:
        assert_close(text, np.array(case["text"]), 1e-10)


# ---------------------------------------------------------------------------- configurations


@pytest.mark.parametrize("name", CASES)
def test_the_configuration_builds_the_same_model(name, tmp_path):
    apply, params = models.load(published(tmp_path, CASES[name]))
    again, shapes = models.shapes(**apply.config)
    assert again == apply
    assert hash(again) == hash(apply)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)


def test_what_a_configuration_leaves_out_is_transformers_default(tmp_path):
    names = {"vit.embeddings.cls_token": np.zeros((1, 1, 3), np.float32)}
    folder = write(tmp_path, {"model_type": "vit", "hidden_size": 12}, names)
    with pytest.raises(ValueError, match="not those of the configuration") as error:
        models.load(folder)
    message = str(error.value)
    assert "vit.embeddings.cls_token is [1, 1, 3], the configuration wants [1, 1, 12]" in message
    assert "missing: vit.encoder.layer.11.output.dense.bias" in message
    assert "layer.12" not in message


@pytest.mark.parametrize("case", [VIT, RESNET, CLIP], ids=["vit", "resnet", "clip"])
def test_a_configuration_without_architectures_is_told_by_its_tensors(case, tmp_path):
    config = {name: value for name, value in case["config"].items() if name != "architectures"}
    apply, _ = models.load(write(tmp_path / "bare", config, tensors_of(case)))
    assert apply == models.load(published(tmp_path / "full", case))[0]


def test_older_entries_of_clips_towers_go_before(tmp_path):
    text = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"model_type": "clip", "text_config": {"eos_token_id": 2, "hidden_act": "relu"}}
    config |= {"text_config_dict": text, "vision_config": {"hidden_size": 6}}
    layout = models.layouts.layout_of(config, ())
    assert layout.options["text"]["width"] == 4
    assert layout.options["text"]["end"] == 49407
    assert layout.options["text"]["activation"] == "quick_gelu"
    assert layout.options["image"]["width"] == 6
    assert layout.options["outputs"] == 512


def test_towers_of_clip_alone(tmp_path):
    whole, params = models.load(published(tmp_path / "both", CLIP), dtype=float)
    x, tokens = images(CLIP), np.array(CLIP["tokens"])
    found = jax.jit(whole)(params, x, tokens)
    for tower, kind, given, expected in (
        ("vision", "CLIPVisionModelWithProjection", x, found.image),
        ("text", "CLIPTextModelWithProjection", tokens, found.text),
    ):
        config = CLIP["config"][f"{tower}_config"] | {"projection_dim": 5, "architectures": [kind]}
        own = (f"{tower}_model.", "visual_projection" if tower == "vision" else "text_projection")
        tensors = {name: x for name, x in tensors_of(CLIP).items() if name.startswith(own)}
        apply, params = models.load(write(tmp_path / tower, config, tensors), dtype=float)
        z = jax.jit(apply)(params, given)
        assert_close(z / jnp.linalg.norm(z, axis=-1, keepdims=True), expected)

        tensors = {name.removeprefix(own[0]): x for name, x in tensors.items()}
        tensors = {name: x for name, x in tensors.items() if not name.startswith(own[1])}
        config["architectures"] = [kind.removesuffix("WithProjection")]
        apply, params = models.load(write(tmp_path / f"{tower}2", config, tensors), dtype=float)
        assert apply.config["outputs"] is None
        assert params.head is None


# ---------------------------------------------------------------------------- formats


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_formats_are_kept_or_cast(dtype, tmp_path):
    tensors = {name: x.astype(dtype) for name, x in tensors_of(VIT).items()}
    folder = write(tmp_path, VIT["config"], tensors)
    apply, params = models.load(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(dtype)}
    assert jax.eval_shape(apply, params, images(VIT)).dtype == dtype
    _, cast = models.load(folder, dtype=jnp.float32)
    assert_close(cast, jax.tree.map(lambda x: x.astype(jnp.float32), params))


def test_buffers_are_ignored(tmp_path):
    tensors = tensors_of(VIT) | {
        "vit.embeddings.position_ids": np.arange(7)[None],
        "vit.embeddings.mask_token": np.zeros((1, 1, 6), np.float32),
        "vit.some_buffer": np.zeros(3, np.float32),
        "vit.counts": np.zeros(3, np.int64),
    }
    _, params = models.load(write(tmp_path / "more", VIT["config"], tensors))
    assert_close(params, models.load(published(tmp_path / "bare", VIT))[1])


# ---------------------------------------------------------------------------- refusals


def faulty(tmp_path, change, case=VIT, **options):
    tensors, config = tensors_of(case), json.loads(json.dumps(case["config"]))
    change(tensors, config)
    with pytest.raises(ValueError) as error:  # noqa: PT011, its message is what each test reads
        models.load(write(tmp_path, config, tensors), **options)
    return str(error.value)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_missing_tensor_is_named(case, tmp_path):
    gone = [name for name in case["shapes"] if not name.endswith("num_batches_tracked")]
    gone = [gone[0], gone[len(gone) // 2], gone[-1]]

    def change(tensors, config):
        for name in gone:
            del tensors[name]

    message = faulty(tmp_path, change, case)
    assert [f"missing: {name}\n" in f"{message}\n" for name in gone] == [True] * 3


def test_wrong_shapes_are_named_with_both(tmp_path):
    patch = "vit.embeddings.patch_embeddings.projection.weight"
    place = "vit.embeddings.position_embeddings"

    def change(tensors, config):
        tensors[patch] = np.zeros((6, 3, 4, 3), np.float32)
        tensors[place] = np.zeros((1, 8, 6), np.float32)
        tensors["classifier.bias"] = np.zeros((5, 1), np.float32)

    message = faulty(tmp_path, change)
    assert f"{patch} is [6, 3, 4, 3], the configuration wants [6, 1, 4, 3]" in message
    assert f"{place} is [1, 8, 6], the configuration wants [1, 5, 6]" in message
    assert "classifier.bias is [5, 1], the configuration wants [1, 4]" in message


def test_unknown_tensors_are_named_unless_they_may_be_there(tmp_path):
    def change(tensors, config):
        tensors["vit.surplus.weight"] = np.zeros((2, 3), np.float32)

    message = faulty(tmp_path, change)
    assert "unknown: vit.surplus.weight [2, 3]" in message
    assert "strict=False" in message
    assert "missing" not in message
    models.load(tmp_path, strict=False)


def test_parameters_of_integers_are_refused(tmp_path):
    def change(tensors, config):
        tensors["classifier.bias"] = np.zeros(4, np.int8)

    assert "wrong format: classifier.bias is I8, expected one of BF16" in faulty(tmp_path, change)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["BertModel"]}, "architecture 'BertModel'; those that are read are Res"),
        ({"architectures": None, "model_type": "bert"}, "architecture 'bert'; those that are read"),
        ({"architectures": None, "model_type": None}, "architecture None; those that are read are"),
        ({"hidden_act": "xielu"}, "activation 'xielu'; those known are identity, relu"),
        ({"num_attention_heads": 4}, "heads must divide width=6, got 4"),
    ],
)
def test_what_is_not_supported_is_said(changes, message, tmp_path):
    assert message in faulty(tmp_path, lambda _, config: config.update(changes))


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    published(tmp_path, VIT)
    (tmp_path / "model.safetensors").write_bytes(b"not at all what it says")
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file"):
        models.load(tmp_path)


def test_duplicates_of_a_whole_file_are_not_read(tmp_path):
    published(tmp_path, VIT)
    save_file({"other": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    models.load(tmp_path)
