"""Inputs instead of parameters: backpropagation to what a model sees.

visualize    the image that a unit likes best
dream        a photograph in which there is more of what a layer sees in it
guide        an image that matches what a similarity asks for, such as a sentence
"""

from fungrad.inputs import objectives, penalties, spectra, transformations
from fungrad.inputs.dream import dream
from fungrad.inputs.guide import cosine, guide, prompts, spherical
from fungrad.inputs.parameterizations import CPPN, Fourier, Latent, MaCo, Pixels
from fungrad.inputs.spaces import Box, Free, Sphere
from fungrad.inputs.visualization import Visualization
from fungrad.inputs.visualize import visualize

__all__ = [
    "CPPN",
    "Box",
    "Fourier",
    "Free",
    "Latent",
    "MaCo",
    "Pixels",
    "Sphere",
    "Visualization",
    "cosine",
    "dream",
    "guide",
    "objectives",
    "penalties",
    "prompts",
    "spectra",
    "spherical",
    "transformations",
    "visualize",
]
