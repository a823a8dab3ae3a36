"""From the tensors of safetensors files to the parameters of a model."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fungrad.models.files import extra

FORMATS = {"F16", "BF16", "F32", "F64"}
_BUFFER = re.compile(r"(num_batches_tracked|position_ids|mask_token|buffer)$")


class Tensors:
    """The tensors of some safetensors files: names, shapes and formats; read one by one.

    Attributes:
        shapes: {name: shape}.
        formats: {name: format}, "F32" and so on.
    """

    def __init__(self, paths: Iterable[Path], stack: contextlib.ExitStack):
        safe_open = extra("safetensors").safe_open
        self._files, self.shapes, self.formats = {}, {}, {}
        for path in paths:
            try:
                file = stack.enter_context(safe_open(path, framework="numpy"))
            except Exception as error:  # of the library's own kind, without a public name
                raise ValueError(f"{path} is no safetensors file: {error}") from error
            for name in file.keys():  # noqa: SIM118, not a dictionary
                described = file.get_slice(name)
                self._files[name] = file
                self.shapes[name] = tuple(described.get_shape())
                self.formats[name] = described.get_dtype()

    def __getitem__(self, name: str) -> Any:
        return self._files[name].get_tensor(name)

    def parameters(self) -> set[str]:
        """The names of all but buffers: tensors of other formats, or with the names of buffers."""
        floats = (name for name, kind in self.formats.items() if kind in FORMATS)
        return {name for name in floats if not _BUFFER.search(name)}


def named(params: Any, name_of: Callable[[str], str]) -> dict[str, Any]:
    """The leaves of a tree, in its order, by the names of their tensors."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    keystr = jax.tree_util.keystr
    return {name_of(keystr(path, simple=True, separator=".")): leaf for path, leaf in leaves}


def filled(
    params: Any,
    name_of: Callable[[str], str],
    tensors: Tensors,
    dtype: Any = None,
    strict: bool = True,
) -> Any:
    """The parameters, with arrays in the place of shapes.

    A convolution's W [h, w, n, m] is a tensor [m, n, h, w]; other shapes are the same, but for
    leading axes of size 1 that a tensor may have besides.

    Args:
        params: the tree of shapes.
        name_of: from a parameter's path, "blocks.0.norms.1.scale", to its tensor's name.
        tensors: what the files hold.
        dtype: of the parameters; that of the files if None.
        strict: whether tensors may not belong nowhere.

    Raises:
        ValueError: tensors that are missing, have another shape or format, or belong nowhere; the
            message has them all.
    """
    wanted = {name: leaf.shape for name, leaf in named(params, name_of).items()}
    unknown = sorted(tensors.parameters() - wanted.keys()) if strict else []
    wrong = [
        *_faults(wanted, tensors),
        *(f"unknown: {name} {list(tensors.shapes[name])}" for name in unknown),
    ]
    if unknown:
        wrong.append("strict=False ignores those that are unknown")
    if wrong:
        raise ValueError("the tensors are not those of the configuration:\n  " + "\n  ".join(wrong))

    def array(name, shape):
        x = tensors[name]
        x = x.transpose(2, 3, 1, 0) if len(shape) == 4 else x.reshape(shape)
        return jnp.asarray(x, dtype)

    arrays = [array(name, shape) for name, shape in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(params), arrays)


def _faults(wanted, tensors):
    """One line for each tensor that is wrong."""
    for name, shape in wanted.items():
        if name not in tensors.shapes:
            yield f"missing: {name}"
            continue
        found, kind = tensors.shapes[name], tensors.formats[name]
        expected = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
        expected = (*(1,) * (len(found) - len(expected)), *expected)
        if found != expected:
            yield f"wrong shape: {name} is {list(found)}, the configuration wants {list(expected)}"
        if kind not in FORMATS:
            yield f"wrong format: {name} is {kind}, expected one of {', '.join(sorted(FORMATS))}"
