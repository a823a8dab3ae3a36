"""Other rules for the same functions: rulebooks to give to `rules=`.

Those without parameters are values, those with parameters functions that make one; equal parameters
make equal books. g is the gradient at the output z of a node, x its input.
"""

from fungrad.rulebooks import lrp
from fungrad.rulebooks.conventions import torch
from fungrad.rulebooks.passing import (
    clip,
    clip_norm,
    noise,
    reverse_gradient,
    scale,
    straight_through,
)
from fungrad.rulebooks.relu import deconvnet, guided_relu, rectified_relu, redirected_relu

__all__ = [
    "clip",
    "clip_norm",
    "deconvnet",
    "guided_relu",
    "lrp",
    "noise",
    "rectified_relu",
    "redirected_relu",
    "reverse_gradient",
    "scale",
    "straight_through",
    "torch",
]
