"""Adversarial attacks: the smallest changes of its input that make a model err.

attack             one call for every method: x' in a ball around x, or as near as it goes
robust_accuracy    a table of a model's accuracy under attacks
exact              the true distances of a linear classifier, by which attacks are judged

Letters: x[N, ...] are the clean examples, δ their changes, ε the size of a ball ‖δ‖_p ≤ ε,
z[N, C] logits, y labels, m the margin, positive where the criterion holds.
"""

from fungrad.inputs.attacks.apgd import APGD
from fungrad.inputs.attacks.attack import attack, robust_accuracy
from fungrad.inputs.attacks.autoattack import AutoAttack, MaskingWarning
from fungrad.inputs.attacks.boundaries import FAB, DeepFool
from fungrad.inputs.attacks.criteria import Misclassified, Targeted
from fungrad.inputs.attacks.descent import FGSM, PGD
from fungrad.inputs.attacks.exact import exact
from fungrad.inputs.attacks.lbfgs import LBFGS
from fungrad.inputs.attacks.penalties import CarliniWagner
from fungrad.inputs.attacks.report import Attack, Exact, RobustAccuracy
from fungrad.inputs.attacks.shrinking import DDN, FMN
from fungrad.inputs.attacks.square import Square

__all__ = [
    "APGD",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "LBFGS",
    "PGD",
    "Attack",
    "AutoAttack",
    "CarliniWagner",
    "DeepFool",
    "Exact",
    "MaskingWarning",
    "Misclassified",
    "RobustAccuracy",
    "Square",
    "Targeted",
    "attack",
    "exact",
    "robust_accuracy",
]
