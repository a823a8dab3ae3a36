"""How transformers writes models down: their configurations, and the names of their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from fungrad import layers


class Layout(NamedTuple):
    """What a file's model is here.

    Attributes:
        architecture: its name in `fungrad.models.architectures`.
        options: what its builder takes.
        name_of: from a parameter's path to the name of its tensor.
    """

    architecture: str
    options: dict[str, Any]
    name_of: Callable[[str], str]


ACTIVATIONS = {name: name for name in layers.activations} | {
    "linear": "identity",
    "swish": "silu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
}
"""Here's name of each activation that transformers names."""

# What a configuration that leaves an entry out means.
RESNET = {
    "num_channels": 3,
    "embedding_size": 64,
    "hidden_sizes": (256, 512, 1024, 2048),
    "depths": (3, 4, 6, 3),
    "layer_type": "bottleneck",
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
VIT = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
    "pooler_output_size": None,
    "pooler_act": "tanh",
}
CLIP_VISION = {
    **{name: VIT[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")},
    **{name: VIT[name] for name in ("intermediate_size", "image_size", "num_channels")},
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 512,
}
CLIP_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 512,
    "eos_token_id": 49407,
}

# From paths of parameters to names of tensors; each pattern is replaced in turn.
_ENDS = {r"\.(W|scale)$": ".weight", r"\.(b|shift)$": ".bias"}
_RESNET_NAMES = {
    r"^stem": "{base}embedder.embedder",
    r"^stages\.(\d+)\.(\d+)": r"{base}encoder.stages.\1.layers.\2",
    r"\.layers\.(\d+)\.(conv|norm)": r".layer.\1.\2",
    r"^head": "classifier.1",
    r"\.conv\.": ".convolution.",
    r"\.norm\.statistics\.mean": ".normalization.running_mean",
    r"\.norm\.statistics\.variance": ".normalization.running_var",
    r"\.norm\.": ".normalization.",
    **_ENDS,
}
_VIT_NAMES = {
    r"^patch": "{base}embeddings.patch_embeddings.projection",
    r"^token$": "{base}embeddings.cls_token",
    r"^place$": "{base}embeddings.position_embeddings",
    r"^blocks": "{base}encoder.layer",
    r"\.norms\.0": ".layernorm_before",
    r"\.norms\.1": ".layernorm_after",
    r"\.attention\.0": ".attention.attention.query",
    r"\.attention\.1": ".attention.attention.key",
    r"\.attention\.2": ".attention.attention.value",
    r"\.attention\.3": ".attention.output.dense",
    r"\.enter": ".intermediate.dense",
    r"\.leave": ".output.dense",
    r"^norm": "{base}layernorm",
    r"^head": "{head}",
    **_ENDS,
}
_CLIP_NAMES = {
    r"^patch": "{base}embeddings.patch_embedding",
    r"^token$": "{base}embeddings.class_embedding",
    r"^place$": "{base}embeddings.position_embedding.weight",
    r"^embedding$": "{base}embeddings.token_embedding.weight",
    r"^entry": "{base}pre_layrnorm",  # transformers' own spelling
    r"^blocks": "{base}encoder.layers",
    r"\.norms\.0": ".layer_norm1",
    r"\.norms\.1": ".layer_norm2",
    r"\.attention\.0": ".self_attn.q_proj",
    r"\.attention\.1": ".self_attn.k_proj",
    r"\.attention\.2": ".self_attn.v_proj",
    r"\.attention\.3": ".self_attn.out_proj",
    r"\.enter": ".mlp.fc1",
    r"\.leave": ".mlp.fc2",
    r"^norm": "{base}{norm}",
    r"^head": "{head}",
    **_ENDS,
}


def _renaming(rules, **parts):
    def name_of(path):
        for pattern, new in rules.items():
            path = re.sub(pattern, new, path)
        return path.format(**parts)

    return name_of


# ---------------------------------------------------------------------------- what is supported


def _resnet(config, names, scores):
    given = RESNET | config
    options = {
        "depth": tuple(given["depths"]),
        "outputs": _labels(config) if scores else None,
        "block": given["layer_type"],
        "widths": tuple(given["hidden_sizes"]),
        "channels": given["num_channels"],
        "stem": given["embedding_size"],
        "activation": _activation(given["hidden_act"]),
        "inner_activation": "relu",  # whatever hidden_act is
        "downsample_in_first_stage": given["downsample_in_first_stage"],
        "downsample_in_bottleneck": given["downsample_in_bottleneck"],
    }
    return Layout("resnet", options, _renaming(_RESNET_NAMES, base=_base("resnet.", names)))


def _vit(config, names, scores):
    given, base = VIT | config, _base("vit.", names)
    options = _tower(given) | {
        "image": (*_pair(given["image_size"]), given["num_channels"]),
        "patch": _pair(given["patch_size"]),
        "attention_bias": given["qkv_bias"],
        "outputs": None,
    }
    head = "classifier"
    if scores:
        options["outputs"] = _labels(config)
    elif any(name.startswith(f"{base}pooler.") for name in names):
        head = f"{base}pooler.dense"
        options["outputs"] = given["pooler_output_size"] or given["hidden_size"]
        options["head_activation"] = _activation(given["pooler_act"])
    return Layout("vit", options, _renaming(_VIT_NAMES, base=base, head=head))


def _clip_vision(config, names, projects):
    given = CLIP_VISION | config
    options = _tower(given) | {
        "image": (*_pair(given["image_size"]), given["num_channels"]),
        "patch": _pair(given["patch_size"]),
        "outputs": given["projection_dim"] if projects else None,
        "patch_bias": False,
        "head_bias": False,
        "entry_norm": True,
    }
    base = _base("vision_model.", names)
    parts = {"base": base, "norm": "post_layernorm", "head": "visual_projection"}
    return Layout("vit", options, _renaming(_CLIP_NAMES, **parts))


def _clip_text(config, names, projects):
    given = CLIP_TEXT | config
    end = given["eos_token_id"]
    options = _tower(given) | {
        "vocabulary": given["vocab_size"],
        "outputs": given["projection_dim"] if projects else None,
        "positions": given["max_position_embeddings"],
        "end": None if end == 2 else end,  # 2 stands in old files, whose true end is the largest id
    }
    base = _base("text_model.", names)
    parts = {"base": base, "norm": "final_layer_norm", "head": "text_projection"}
    return Layout("text_tower", options, _renaming(_CLIP_NAMES, **parts))


def _clip(config, names, _):
    image = _clip_vision(_part(config, "vision_config", CLIP_VISION), names, False)
    text = _clip_text(_part(config, "text_config", CLIP_TEXT), names, False)
    towers = {"image": image, "text": text}

    def name_of(path):
        tower, _, rest = path.partition(".")
        return towers[tower].name_of(rest) if tower in towers else path

    options: dict[str, Any] = {name: dict(tower.options) for name, tower in towers.items()}
    for tower in towers:
        del options[tower]["outputs"]
    return Layout("clip", options | {"outputs": config.get("projection_dim", 512)}, name_of)


SUPPORTED = {
    "ResNetModel": (_resnet, False),
    "ResNetForImageClassification": (_resnet, True),
    "ViTModel": (_vit, False),
    "ViTForImageClassification": (_vit, True),
    "CLIPModel": (_clip, True),
    "CLIPVisionModel": (_clip_vision, False),
    "CLIPVisionModelWithProjection": (_clip_vision, True),
    "CLIPTextModel": (_clip_text, False),
    "CLIPTextModelWithProjection": (_clip_text, True),
}
"""The layouts of transformers that are read."""

_KINDS = {
    "resnet": ("ResNetModel", "ResNetForImageClassification", "classifier."),
    "vit": ("ViTModel", "ViTForImageClassification", "classifier."),
    "clip": ("CLIPModel", "CLIPModel", ""),
    "clip_vision_model": ("CLIPVisionModel", "CLIPVisionModelWithProjection", "visual_projection."),
    "clip_text_model": ("CLIPTextModel", "CLIPTextModelWithProjection", "text_projection."),
}
"""By model_type: the architecture without a head, with it, and how its tensors' names begin."""


def layout_of(config: dict[str, Any], names: Iterable[str]) -> Layout:
    """The layout of a model.

    Args:
        config: what its config.json holds.
        names: the names of its tensors.

    Raises:
        ValueError: an architecture or an activation that is not supported; the message lists
            those that are.
    """
    names, kind = tuple(names), config.get("model_type")
    stated = config.get("architectures") or ()
    if not stated and kind in _KINDS:
        without, whole, head = _KINDS[kind]
        stated = (whole if any(name.startswith(head) for name in names) else without,)
    if not stated or stated[0] not in SUPPORTED:
        raise ValueError(
            f"config.json names the architecture {stated[0] if stated else kind!r}; those that "
            f"are read are {', '.join(SUPPORTED)}"
        )
    read, head = SUPPORTED[stated[0]]
    return read(config, names, head)


# ---------------------------------------------------------------------------- their entries


def _tower(given):
    return {
        "width": given["hidden_size"],
        "heads": given["num_attention_heads"],
        "blocks": given["num_hidden_layers"],
        "hidden": given["intermediate_size"],
        "activation": _activation(given["hidden_act"]),
        "epsilon": given["layer_norm_eps"],
    }


def _activation(name):
    if name not in ACTIVATIONS:
        names = ", ".join(ACTIVATIONS)
        raise ValueError(f"config.json names the activation {name!r}; those known are {names}")
    return ACTIVATIONS[name]


def _labels(config):
    """The number of classes, 2 where nothing says it; None for 0, a model without scores."""
    labels = config.get("id2label")
    return config.get("num_labels", 2 if labels is None else len(labels)) or None


def _pair(size):
    return (size, size) if isinstance(size, int) else tuple(size)


def _base(prefix, names):
    """The prefix, where tensors have it: a model inside another one is saved with its name."""
    return prefix if any(name.startswith(prefix) for name in names) else ""


def _part(config, name, defaults):
    """The configuration of a tower; in old files `name_dict` goes before `name`."""
    older = config.get(f"{name}_dict")
    given = config.get(name) or {}
    return given if older is None else given | defaults | older
