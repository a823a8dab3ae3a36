"""Small published models: folders as transformers writes them, with weights drawn by name."""

import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

RECORD = Path(__file__).with_name("published.json")
"""What `python -m tests.models.recording` computed with torch 2.13 and transformers 5.23."""


def tensor(name, shape):
    """Float32 numbers that depend on the name alone, of a size that keeps signals alive."""
    draw, last = np.random.default_rng(zlib.crc32(name.encode())), name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if last == "running_var":
        return draw.uniform(0.5, 2, shape).astype(np.float32)
    if last == "weight" and len(shape) == 1:
        return (1 + 0.3 * draw.normal(size=shape)).astype(np.float32)
    size = 0.5 if len(shape) < 2 else 1 / np.sqrt(np.prod(shape[1:]))
    return np.asarray(size * draw.normal(size=shape), np.float32)


def write(folder, config, tensors, parts=1):
    """config.json and the tensors, in one file or in parts with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    if parts == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    place = {}
    for part in range(parts):
        file = f"model-{part + 1:05}-of-{parts:05}.safetensors"
        names = sorted(tensors)[part::parts]
        save_file({name: tensors[name] for name in names}, folder / file)
        place |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return folder


def published(folder, case, parts=1):
    """The folder of a recorded case."""
    tensors = {name: tensor(name, shape) for name, shape in case["shapes"].items()}
    return write(folder, case["config"], tensors, parts)


def images(case):
    """[N, H, W, C] in float64."""
    return np.random.default_rng(0).normal(size=case["images"])


def summary(gradient):
    """Of the gradient by the images, its products with eight fixed directions."""
    directions = np.random.default_rng(1).normal(size=(8, gradient.size))
    return directions @ gradient.reshape(-1) / np.sqrt(gradient.size)


def weights_of(out):
    """What the outputs are multiplied with before they are summed, to be differentiated."""
    return np.cos(np.arange(out.size)).reshape(out.shape)
