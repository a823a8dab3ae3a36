"""Where models come from: folders, a cache of the hub, and what is said where there is neither."""

import sys

import numpy as np
import pytest
from huggingface_hub import constants

from fungrad import models
from tests.models.published import write

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architectures": ["ViTModel"],
    "model_type": "vit",
    "hidden_size": 2,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 3,
    "image_size": 2,
    "patch_size": 2,
    "num_channels": 1,
}


def tensors():
    """Those of CONFIG, by the names of transformers."""
    layout = models.layouts.layout_of(CONFIG, ())
    _, params = models.shapes(layout.architecture, **layout.options)
    leaves = models.weights.named(params, layout.name_of)
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    shapes["embeddings.patch_embeddings.projection.weight"] = (2, 1, 2, 2)
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The place of a model's snapshot in a cache of the hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / "models--someone--small"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT, "utf-8")
    return place / "snapshots" / COMMIT


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_cached_model_needs_no_network(cache, parts, revision):
    write(cache, CONFIG, tensors(), parts)
    apply, params = models.load("someone/small", revision=revision)
    assert apply.config["width"] == 2
    assert params.token.shape == (2,)


def test_without_network_and_cache_the_expected_files_are_named(cache):
    for name, revision in (("someone/other", None), ("someone/small", "v2")):
        with pytest.raises(FileNotFoundError) as error:
            models.load(name, revision=revision)
        message = str(error.value)
        for part in (name, repr(revision or "main"), "config.json", "model.safetensors", "HF_HOME"):
            assert part in message


def test_a_model_that_is_cached_in_part(cache):
    write(cache, CONFIG, {})
    (cache / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors of that name on the hub"):
        models.load("someone/small")


# ---------------------------------------------------------------------------- folders


def test_folders_that_lack_something(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"or a name on the hub.*there is no folder '/no/"):
        models.load("/no/such/folder")
    with pytest.raises(FileNotFoundError, match=r"it has no config\.json"):
        models.load(tmp_path)
    folder = write(tmp_path, CONFIG, tensors(), parts=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks model-00002-of-00002\.safetensors, which"):
        models.load(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(FileNotFoundError, match="it has no weights that are safetensors"):
        models.load(folder)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "model.ckpt", "model.pth"])
def test_pickles_are_refused_with_the_reason(file, tmp_path):
    folder = write(tmp_path, CONFIG, {})
    (folder / "model.safetensors").unlink()
    (folder / file).write_bytes(b"cos\nsystem\n")
    for given in (folder, folder / file):
        with pytest.raises(ValueError, match=rf"unpickling runs .*{file}.*save_pretrained"):
            models.load(given)


@pytest.mark.parametrize("given", ["./nope", "../a/b", "-a/b", "a/b.", "a--b/c", "a/b/c"])
def test_what_is_no_name_on_the_hub_is_a_folder_that_is_not_there(given):
    with pytest.raises(FileNotFoundError, match=r"name_or_path must be .*there is no folder"):
        models.load(given)


def test_mistaken_arguments(tmp_path):
    with pytest.raises(TypeError, match=r"name_or_path must be a folder, or a name .*, got None"):
        models.load(None)
    folder = write(tmp_path, CONFIG, tensors())
    with pytest.raises(ValueError, match=r"must be a folder.*got the file.*give its folder"):
        models.load(folder / "model.safetensors")
    with pytest.raises(ValueError, match="revision is for names on the hub, got 'main'"):
        models.load(folder, revision="main")
    (folder / "config.json").write_text("{", "utf-8")
    with pytest.raises(ValueError, match=r"config\.json holds no JSON"):
        models.load(folder)


@pytest.mark.parametrize(
    ("module", "use", "given"),
    [
        ("safetensors", models.load, None),
        ("tokenizers", models.tokenizer, None),
        ("huggingface_hub", models.load, "someone/small"),
    ],
)
def test_a_missing_extra_says_how_to_install_it(module, use, given, tmp_path, monkeypatch):
    folder = write(tmp_path, CONFIG, tensors())
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"need {module}.*pip install fungrad\[hub\]"):
        use(given or folder)
