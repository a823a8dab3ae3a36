"""Makes published.json again: `python -m tests.models.recording`, with torch and transformers."""

import json
import tempfile
from pathlib import Path

from safetensors import safe_open

from tests.models.published import RECORD, images, published, summary, weights_of

TOWER = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 7}
RESNET = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 2]}
VIT = {**TOWER, "hidden_size": 6}
BASIC = {"layer_type": "basic", "hidden_act": "gelu", "downsample_in_first_stage": True}
ODD = {"image_size": (9, 7), "patch_size": (4, 3), "qkv_bias": False, "layer_norm_eps": 1e-3}
TEXT = {"vocab_size": 12, "max_position_embeddings": 6, "hidden_size": 4}
IMAGE = {"image_size": 7, "patch_size": 3, "num_channels": 1, "hidden_size": 6}
TOKENS = [[0, 5, 9, 11, 9], [3, 9, 2, 1, 4], [0, 1, 8, 11, 9]]


def clip(end, activation):
    more = TOWER | {"hidden_act": activation}
    text = {**TEXT, **more, "eos_token_id": end}
    return {"text_config": text, "vision_config": IMAGE | more, "projection_dim": 5}


# The family, the model's name after it, its configuration, the images' shape, the output's field.
CASES = {
    "resnet, basic": (
        *("ResNet", "ForImageClassification"),
        {**RESNET, **BASIC, "num_channels": 1, "num_labels": 3},
        *((2, 19, 16, 1), "logits"),
    ),
    "resnet, bottleneck": (
        *("ResNet", "ForImageClassification"),
        {**RESNET, "downsample_in_bottleneck": True},
        *((1, 21, 18, 3), "logits"),
    ),
    "resnet, features": (
        *("ResNet", "Model"),
        {**RESNET, "hidden_act": "quick_gelu", "num_channels": 2},
        *((2, 16, 17, 2), "pooler_output"),
    ),
    "vit, scores": (
        *("ViT", "ForImageClassification"),
        {**VIT, **ODD, "num_channels": 1, "num_labels": 4, "hidden_act": "gelu_pytorch_tanh"},
        *((2, 9, 7, 1), "logits"),
    ),
    "vit, pooler": (
        *("ViT", "Model"),
        {**VIT, "image_size": 6, "patch_size": 3, "hidden_act": "relu", "pooler_output_size": 5},
        *((2, 6, 6, 3), "pooler_output"),
    ),
    "clip, largest id": (
        *("CLIP", "Model", clip(2, "quick_gelu")),
        *((2, 7, 7, 1), "logits_per_image"),
    ),
    "clip, first end": (
        *("CLIP", "Model", clip(9, "silu")),
        *((2, 7, 7, 1), "logits_per_image"),
    ),
}


def written(model):
    """What `save_pretrained` writes: the configuration, and the shapes of the tensors."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
        with safe_open(Path(folder) / "model.safetensors", framework="numpy") as file:
            return config, {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}


def record(family, name, options, shape, field):
    import torch
    import transformers

    kind = getattr(transformers, family + name)
    config, shapes = written(kind(getattr(transformers, f"{family}Config")(**options)))
    case = {"config": config, "shapes": shapes, "images": shape}
    with tempfile.TemporaryDirectory() as folder:
        model = kind.from_pretrained(published(Path(folder), case)).double().eval()
    x = torch.tensor(images(case).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    given = {"pixel_values": x}
    if family == "CLIP":
        given["input_ids"] = torch.tensor(TOKENS)
    out = model(**given)
    if family == "CLIP":
        case |= {"tokens": TOKENS, "text": out.text_embeds.tolist()}
    out = out[field].reshape(shape[0], -1)
    (out * torch.tensor(weights_of(out.detach().numpy()))).sum().backward()
    gradient = x.grad.numpy().transpose(0, 2, 3, 1)
    return case | {"out": out.tolist(), "gradient": summary(gradient).tolist()}


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(record(*case))}" for name, case in CASES.items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
