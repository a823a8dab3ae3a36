"""Models: `apply, params = fg.models.mlp((4, 16, 3), key=key)`, then `apply(params, x)`.

`apply` is a pure function of parameters and a batch, and `apply.config` is its configuration:
`build(**apply.config, key=key)` makes the same model with fresh parameters. `load` reads published
ones.
"""

from __future__ import annotations

from fungrad.models.building import architectures, build, shapes
from fungrad.models.clips import CLIP, Similarity, TextTower, clip, text_tower
from fungrad.models.convolutional import BatchNorm, ConvNorm, cnn, count, renewed
from fungrad.models.loading import Tokenizer, load, tokenizer
from fungrad.models.model import Linear, Model, Norm
from fungrad.models.perceptrons import logistic, mlp
from fungrad.models.resnets import Residual, ResNet, resnet
from fungrad.models.transformers import Block, Transformer, attention
from fungrad.models.vggs import VGG, vgg
from fungrad.models.vits import ViT, vit

__all__ = [
    "CLIP",
    "VGG",
    "BatchNorm",
    "Block",
    "ConvNorm",
    "Linear",
    "Model",
    "Norm",
    "ResNet",
    "Residual",
    "Similarity",
    "TextTower",
    "Tokenizer",
    "Transformer",
    "ViT",
    "architectures",
    "attention",
    "build",
    "clip",
    "cnn",
    "count",
    "load",
    "logistic",
    "mlp",
    "renewed",
    "resnet",
    "shapes",
    "text_tower",
    "tokenizer",
    "vgg",
    "vit",
]
