"""Makes zennit.json: relevances by zennit, on PyTorch, that test_against_zennit.py compares with.

    pip install torch==2.13.0 zennit==0.5.1
    python tests/rulebooks/zennit_figures.py

The network is a small residual one with everything in it that zennit knows: convolutions with and
without bias, batch normalisation, a residual sum, maximum and average pooling, linear layers. Its
numbers come from `numbers`, so that the test makes the same ones. zennit joins a normalisation to
the convolution before it and leaves a division by √(1 + ε) behind; so ε is small here.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

SHAPES = {
    "stem.weight": (4, 2, 3, 3),
    "stem.bias": (4,),
    "first.weight": (4, 4, 3, 3),
    "second.weight": (4, 4, 3, 3),
    "second.bias": (4,),
    "hidden.weight": (5, 16),
    "hidden.bias": (5,),
    "head.weight": (3, 5),
    "head.bias": (3,),
    "input": (2, 2, 6, 6),
    "relevance": (2, 3),
} | {f"norm{i}.{name}": (4,) for i in (1, 2) for name in ("weight", "bias", "mean", "var")}


def numbers():
    """The parameters, the input and the relevance of the output, in float64."""
    draw = np.random.RandomState(0)
    drawn = {name: draw.randn(*shape) / 2 for name, shape in sorted(SHAPES.items())}
    drawn["hidden.bias"] += 2  # so that no relevance dies there
    return {name: np.exp(a) if name.endswith("var") else a for name, a in drawn.items()}


def network(values):
    import torch
    from torch import nn
    from zennit.layer import Sum

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm1 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4, 1e-12)
            self.first, self.norm2 = (
                nn.Conv2d(4, 4, 3, padding=1, bias=False),
                nn.BatchNorm2d(4, 1e-12),
            )
            self.second, self.sum = nn.Conv2d(4, 4, 3, padding=1), Sum()
            self.maximum, self.average = nn.MaxPool2d(2), nn.AvgPool2d(2, 1)
            self.hidden, self.head, self.relu = nn.Linear(16, 5), nn.Linear(5, 3), nn.ReLU()

        def forward(self, x):
            x = self.relu(self.norm1(self.stem(x)))
            y = self.second(self.relu(self.norm2(self.first(x))))
            x = self.relu(self.sum(torch.stack([x, y], dim=-1)))
            x = self.average(self.maximum(x))
            return self.head(self.relu(self.hidden(x.flatten(1))))

    model = Residual().double().eval()
    tensors = {name: torch.tensor(a) for name, a in values.items()}
    for name, tensor in tensors.items():
        part, _, kind = name.partition(".")
        if kind:
            kind = {"mean": "running_mean", "var": "running_var"}.get(kind, kind)
            getattr(getattr(model, part), kind).data.copy_(tensor)
    return model, tensors["input"], tensors["relevance"]


def composites():
    import torch
    from zennit import composites, rules
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.types import Convolution, Linear

    def everywhere(rule):
        layers = [((Convolution, Linear), rule), *composites.layer_map_base(1e-6)]
        return composites.LayerMapComposite(layers, canonizers=[SequentialMergeBatchNorm()])

    low, high = torch.full((1, 2, 6, 6), -2.0).double(), torch.full((1, 2, 6, 6), 2.0).double()
    with_norms = {"canonizers": [SequentialMergeBatchNorm()]}
    return {
        "epsilon": everywhere(rules.Epsilon(1e-6)),
        "epsilon 0.25": everywhere(rules.Epsilon(0.25)),
        "gamma": everywhere(rules.Gamma(0.25)),
        "alpha_beta": everywhere(rules.AlphaBeta(2, 1)),
        "zplus": everywhere(rules.ZPlus()),
        "wsquare": everywhere(rules.WSquare()),
        "flat": everywhere(rules.Flat()),
        "zbox": everywhere(rules.ZBox(-2.0, 2.0)),
        "epsilon_plus": composites.EpsilonPlus(**with_norms),
        "epsilon_plus_flat": composites.EpsilonPlusFlat(**with_norms),
        "epsilon_alpha2_beta1": composites.EpsilonAlpha2Beta1(**with_norms),
        "epsilon_alpha2_beta1_flat": composites.EpsilonAlpha2Beta1Flat(**with_norms),
        "epsilon_gamma_box": composites.EpsilonGammaBox(low, high, **with_norms),
    }


def main():
    from zennit.attribution import Gradient

    found = {}
    for name, composite in composites().items():
        model, x, relevance = network(numbers())
        with Gradient(model, composite) as attributor:
            _, share = attributor(x, relevance)
        found[name] = [float(f"{r:.9g}") for r in share.flatten().tolist()]
    versions = {name: version(name) for name in ("torch", "zennit")}
    path = Path(__file__).with_name("zennit.json")
    path.write_text(json.dumps({"made with": versions, "relevances": found}, indent=0) + "\n")


if __name__ == "__main__":
    main()
