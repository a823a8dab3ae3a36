"""Makes published.json again: `python -m tests.models.recording`, with torch and transformers."""

import json
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import (
    CLIPConfig,
    CLIPModel,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from tests.models.published import RECORD, images, published, summary, weights_of

TOWER = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 7}


def clip(end, activation):
    text = {"vocab_size": 12, "max_position_embeddings": 6, "hidden_size": 4, "eos_token_id": end}
    image = {"image_size": 7, "patch_size": 3, "num_channels": 1, "hidden_size": 6}
    more = TOWER | {"hidden_act": activation}
    return CLIPConfig(text_config=text | more, vision_config=image | more, projection_dim=5)


RESNET = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 2]}
VIT = {**TOWER, "hidden_size": 6}
CASES = {
    "resnet, basic": (
        ResNetForImageClassification,
        ResNetConfig(
            **RESNET,
            layer_type="basic",
            hidden_act="gelu",
            downsample_in_first_stage=True,
            num_channels=1,
            num_labels=3,
        ),
        (2, 19, 16, 1),
        lambda out: out.logits,
    ),
    "resnet, bottleneck": (
        ResNetForImageClassification,
        ResNetConfig(**RESNET, downsample_in_bottleneck=True),
        (1, 21, 18, 3),
        lambda out: out.logits,
    ),
    "resnet, features": (
        ResNetModel,
        ResNetConfig(**RESNET, hidden_act="quick_gelu", num_channels=2),
        (2, 16, 17, 2),
        lambda out: out.pooler_output[..., 0, 0],
    ),
    "vit, scores": (
        ViTForImageClassification,
        ViTConfig(
            **VIT,
            image_size=(9, 7),
            patch_size=(4, 3),
            num_channels=1,
            qkv_bias=False,
            layer_norm_eps=1e-3,
            hidden_act="gelu_pytorch_tanh",
            num_labels=4,
        ),
        (2, 9, 7, 1),
        lambda out: out.logits,
    ),
    "vit, pooler": (
        ViTModel,
        ViTConfig(**VIT, image_size=6, patch_size=3, hidden_act="relu", pooler_output_size=5),
        (2, 6, 6, 3),
        lambda out: out.pooler_output,
    ),
    "clip, largest id": (CLIPModel, clip(2, "quick_gelu"), (2, 7, 7, 1), None),
    "clip, first end": (CLIPModel, clip(9, "silu"), (2, 7, 7, 1), None),
}
TOKENS = [[0, 5, 9, 11, 9], [3, 9, 2, 1, 4], [0, 1, 8, 11, 9]]


def record(architecture, config, shape, output):
    config.architectures = [architecture.__name__]
    with tempfile.TemporaryDirectory() as folder:
        architecture(config).save_pretrained(folder)
        written = json.loads((Path(folder) / "config.json").read_text("utf-8"))
        with safe_open(Path(folder) / "model.safetensors", framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
    case = {"config": written, "shapes": shapes, "images": shape}
    with tempfile.TemporaryDirectory() as folder:
        model = architecture.from_pretrained(published(Path(folder), case)).double().eval()
    x = torch.tensor(images(case).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    if output is None:
        case["tokens"] = TOKENS
        out = model(pixel_values=x, input_ids=torch.tensor(TOKENS))
        case["text"] = out.text_embeds.tolist()
        out = out.logits_per_image
    else:
        out = output(model(x))
    (out * torch.tensor(weights_of(out.detach().numpy()))).sum().backward()
    gradient = x.grad.numpy().transpose(0, 2, 3, 1)
    return case | {"out": out.tolist(), "gradient": summary(gradient).tolist()}


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(record(*case))}" for name, case in CASES.items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
