"""Makes torch.json: PyTorch's gradients at kinks, which test_conventions.py compares with.

    pip install torch==2.13.0
    python tests/rulebooks/torch_figures.py

Each row is an operation in PyTorch, and the points at which it is differentiated, in float64. The
gradient is that of Σ (1 + i) outᵢ, so that entries of the output can be told apart.
"""

import json
import math
from pathlib import Path

ROWS = {
    "abs": ("torch.abs(x)", [[-1, 0, 2]]),
    "sign": ("torch.sign(x)", [[-1, 0, 2]]),
    "relu": ("F.relu(x)", [[-1, 0, 2]]),
    "relu6": ("F.relu6(x)", [[-1, 0, 6, 7]]),
    "leaky_relu": ("F.leaky_relu(x)", [[-1, 0, 2]]),
    "leaky_relu 0.3": ("F.leaky_relu(x, 0.3)", [[-1, 0, 2]]),
    "elu": ("F.elu(x)", [[-1, 0, 2]]),
    "elu 2": ("F.elu(x, 2.0)", [[-1, 0, 2]]),
    "selu": ("F.selu(x)", [[-1, 0, 2]]),
    "celu 2": ("F.celu(x, 2.0)", [[-1, 0, 2]]),
    "hard_tanh": ("F.hardtanh(x)", [[-2, -1, 0, 1, 2]]),
    "hard_sigmoid": ("F.hardsigmoid(x)", [[-4, -3, 0, 3, 4]]),
    "hard_silu": ("F.hardswish(x)", [[-4, -3, 0, 3, 4]]),
    "softsign": ("F.softsign(x)", [[-1, 0, 2]]),
    "softplus": ("F.softplus(x)", [[-1, 0, 2]]),
    "clamp": ("torch.clamp(x, 0, 1)", [[-1, 0, 0.5, 1, 2]]),
    "clamp by arrays": ("torch.clamp(x, y, z)", [[0, 1, 3], [0, 2, 0], [2, 4, 3]]),
    "clamp from below": ("torch.clamp(x, min=0)", [[-1, 0, 2]]),
    "maximum": ("torch.maximum(x, y)", [[1, 2, 3], [1, 3, 2]]),
    "minimum": ("torch.minimum(x, y)", [[1, 2, 3], [1, 3, 2]]),
    "max": ("torch.max(x)", [[1, 3, 3, 2]]),
    "amax": ("torch.amax(x, 1)", [[[1, 3, 3], [2, 2, 2]]]),
    "amin": ("torch.amin(x, 1)", [[[1, 1, 3], [2, 2, 2]]]),
    "cummax": ("torch.cummax(x, 0)[0]", [[1, 3, 2, 3, 1, 3]]),
    "cummin": ("torch.cummin(x, 0)[0]", [[2, 1, 1, 0, 0, 3]]),
    "cummax of columns": ("torch.cummax(x, 0)[0]", [[[1, 3], [1, 2], [0, 3]]]),
    "sort": ("torch.sort(x, stable=True)[0]", [[2, 1, 2, 1]]),
    "topk": ("torch.topk(x, 2)[0]", [[3, 1, 2, 4]]),
    "median": ("torch.median(x)", [[2, 1, 2, 3, 2]]),
    "median of distinct": ("torch.median(x)", [[2, 1, 5]]),
    "max_pool": ("F.max_pool1d(x[None, None], 2)[0, 0]", [[1, 1, 0, 2]]),
    "prod of one zero": ("torch.prod(x)", [[2, 0, 3]]),
    "prod of two zeros": ("torch.prod(x)", [[2, 0, 0]]),
    "cumprod of a zero": ("torch.cumprod(x, 0)", [[2, 0, 3]]),
    "norm": ("torch.linalg.norm(x)", [[0, 0]]),
    "norm of rows": ("torch.linalg.norm(x, dim=1)", [[[0, 0], [3, 4]]]),
    "norm of columns": ("torch.linalg.norm(x, dim=0, keepdim=True)", [[[0, 3], [0, 4]]]),
    "norm 1": ("torch.linalg.norm(x, 1)", [[0, -2]]),
    "norm inf": ("torch.linalg.norm(x, float('inf'))", [[1, -2, 2]]),
    "std": ("torch.std(x)", [[2, 2, 2]]),
    "std of rows": ("torch.std(x, 1)", [[[2, 2], [1, 3]]]),
    "where": ("torch.where(x > 0, x, 0.0)", [[-1, 0, 2]]),
    "where of sqrt": ("torch.where(x > 0, torch.sqrt(x), 0.0)", [[0, 4]]),
    "sqrt": ("torch.sqrt(x)", [[0, 4]]),
    "rsqrt": ("torch.rsqrt(x)", [[0, 4]]),
    "reciprocal": ("1 / x", [[0, 4]]),
    "log": ("torch.log(x)", [[0, 4]]),
    "log1p": ("torch.log1p(x)", [[-1, 4]]),
    "acos": ("torch.acos(x)", [[-1, 0, 1]]),
    "acosh": ("torch.acosh(x)", [[1, 2]]),
    "atanh": ("torch.atanh(x)", [[-1, 0, 1]]),
    "erfinv": ("torch.erfinv(x)", [[-1, 0, 1]]),
    "pow 2": ("torch.pow(x, 2)", [[0, 3]]),
    "pow 0.5": ("torch.pow(x, 0.5)", [[0, 4]]),
    "pow 0": ("torch.pow(x, 0.0)", [[0, 3]]),
    "pow by array": ("torch.pow(x, y)", [[0, 0, 0, 2], [0, 1, 2, 0]]),
    "power of 0": ("torch.pow(0.0, x)", [[0, 1, 2]]),
    "atan2": ("torch.atan2(x, y)", [[0, 1], [0, 0]]),
    "sinc": ("torch.sinc(x)", [[0, 0.5]]),
    "fmod": ("torch.fmod(x, y)", [[4, -4, 5], [2, 3, 2]]),
    "remainder": ("torch.remainder(x, y)", [[4, -4, 5], [2, 3, 2]]),
    "round": ("torch.round(x)", [[0.5, 1]]),
    "floor": ("torch.floor(x)", [[0.5, 1]]),
    "trunc": ("torch.trunc(x)", [[0.5, 1]]),
    "hypot": ("torch.hypot(x, y)", [[0, 3], [0, 4]]),
    "copysign": ("torch.copysign(x, y)", [[0, -2], [1, 1]]),
    "logsumexp": ("torch.logsumexp(x, 0)", [[1, 1, 0]]),
    "logaddexp": ("torch.logaddexp(x, y)", [[1, 2], [1, 0]]),
    "xlogy": ("torch.xlogy(x, y)", [[0, 0, 2], [0, 2, 3]]),
    "nan_to_num": ("torch.nan_to_num(x)", [[1, math.nan, math.inf]]),
}


def main():
    import torch
    import torch.nn.functional as F

    found = {}
    for name, (operation, points) in ROWS.items():
        inputs = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in points]
        local = dict(zip("xyz", inputs, strict=False))
        out = eval(operation, {"torch": torch, "F": F, **local})
        weights = torch.arange(1, out.numel() + 1, dtype=torch.float64).reshape(out.shape)
        (weights * out).sum().backward()
        gradients = [x.grad for x in inputs]
        found[name] = [[str(v) for v in g.flatten().tolist()] for g in gradients]
    figures = {"made with": {"torch": torch.__version__}, "gradients": found}
    path = Path(__file__).with_name("torch.json")
    path.write_text(json.dumps(figures, indent=0) + "\n")


if __name__ == "__main__":
    main()
