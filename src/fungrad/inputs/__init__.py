"""Inputs instead of parameters: backpropagation to what a model sees.

attack       the smallest change of an input that makes a model err; `robust_accuracy`, `exact`
visualize    the image that a unit likes best
dream        a photograph in which there is more of what a layer sees in it
guide        an image that matches what a similarity asks for, such as a sentence
"""

from fungrad.inputs import objectives, penalties, spectra, transformations
from fungrad.inputs.attacks import (
    APGD,
    DDN,
    FAB,
    FGSM,
    FMN,
    LBFGS,
    PGD,
    Attack,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    Exact,
    MaskingWarning,
    Misclassified,
    RobustAccuracy,
    Square,
    Targeted,
    attack,
    exact,
    robust_accuracy,
)
from fungrad.inputs.dream import dream
from fungrad.inputs.guide import cosine, guide, prompts, spherical
from fungrad.inputs.parameterizations import CPPN, Fourier, Latent, MaCo, Pixels
from fungrad.inputs.spaces import Box, Free, Sphere
from fungrad.inputs.visualization import Visualization
from fungrad.inputs.visualize import visualize

__all__ = [
    "APGD",
    "CPPN",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "LBFGS",
    "PGD",
    "Attack",
    "AutoAttack",
    "Box",
    "CarliniWagner",
    "DeepFool",
    "Exact",
    "Fourier",
    "Free",
    "Latent",
    "MaCo",
    "MaskingWarning",
    "Misclassified",
    "Pixels",
    "RobustAccuracy",
    "Sphere",
    "Square",
    "Targeted",
    "Visualization",
    "attack",
    "cosine",
    "dream",
    "exact",
    "guide",
    "objectives",
    "penalties",
    "prompts",
    "robust_accuracy",
    "spectra",
    "spherical",
    "transformations",
    "visualize",
]
