"""Where the files of a model are: in a folder, or on the Hugging Face hub and then in its cache."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
EXPECTED = (
    "config.json and model.safetensors, or config.json, model.safetensors.index.json and the parts "
    "that it names"
)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def extra(module: str) -> Any:
    """A module that the extra `hub` brings."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = module.partition(".")[0]
        raise ImportError(
            f"published models need {missing}, which is not installed: pip install fungrad[hub]"
        ) from error


class Files:
    """The files of one model by their names; those on the hub are fetched when they are asked for.

    Args:
        name_or_path: a folder, or a name on the hub, "owner/name".
        revision: on the hub: the commit, tag or branch; "main" if None.

    Raises:
        FileNotFoundError: it is neither a folder nor the form of a name on the hub.
        ValueError: it is a file, or a folder comes with a revision.
    """

    def __init__(self, name_or_path: Any, revision: str | None = None):
        self.name, self.revision = str(name_or_path), revision
        path = Path(name_or_path).expanduser()
        self.folder = path if path.is_dir() else None
        if path.suffix in PICKLES and not path.is_dir():
            raise ValueError(_pickled(self.name))
        if path.is_file():
            raise ValueError(
                f"name_or_path must be a folder that holds {EXPECTED}, got the file {self.name!r}; "
                f"give its folder"
            )
        if self.folder is not None and revision is not None:
            raise ValueError(
                f"revision is for names on the hub, got {revision!r} for the folder {self.name!r}"
            )
        if self.folder is None and not _HUB_NAME.fullmatch(self.name):
            raise FileNotFoundError(
                f"name_or_path must be a folder that holds {EXPECTED}, or a name on the hub, "
                f"owner/name; there is no folder {self.name!r}"
            )

    def find(self, file: str) -> Path | None:
        """The path of the file, or None where the model has none of that name.

        Raises:
            FileNotFoundError: it is on the hub, not in the cache, and cannot be fetched.
            ImportError: a name on the hub without the extra `hub`.
        """
        if self.folder is not None:
            path = self.folder / file
            return path if path.is_file() else None
        hub, errors = extra("huggingface_hub"), extra("huggingface_hub.errors")
        try:
            options = {"revision": self.revision, "local_files_only": True}
            return Path(hub.hf_hub_download(self.name, file, **options))
        except errors.LocalEntryNotFoundError:
            pass
        try:
            return Path(hub.hf_hub_download(self.name, file, revision=self.revision))
        except errors.LocalEntryNotFoundError as error:
            raise FileNotFoundError(self._unreachable(file)) from error
        except errors.EntryNotFoundError:
            return None

    def json(self, file: str) -> Any:
        """What the file holds, or None where the model has none of that name.

        Raises:
            ValueError: it holds no JSON.
        """
        path = self.find(file)
        if path is None:
            return None
        try:
            return json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} of {self.name!r} is no JSON: {error}") from error

    def weights(self) -> list[Path]:
        """The safetensors files.

        Raises:
            FileNotFoundError: there are none, or a part is missing.
            ValueError: there are pickled files only.
        """
        whole = self.find("model.safetensors")
        if whole is not None:
            return [whole]
        index = self.json("model.safetensors.index.json")
        if index is None:
            raise self._without_weights()
        parts = {file: self.find(file) for file in sorted(set(index["weight_map"].values()))}
        missing = [file for file, path in parts.items() if path is None]
        if missing:
            raise FileNotFoundError(
                f"{self.name!r} lacks {', '.join(missing)}, which its model.safetensors.index.json "
                f"names"
            )
        return [path for path in parts.values() if path is not None]

    def _without_weights(self) -> Exception:
        if self.folder is None:
            pickled = [file for file in ("pytorch_model.bin",) if self.find(file)]
        else:
            pickled = sorted(p.name for p in self.folder.iterdir() if p.suffix in PICKLES)
        if pickled:
            return ValueError(_pickled(", ".join(pickled)))
        return FileNotFoundError(f"{self.name!r} must hold {EXPECTED}; it has no weights")

    def _unreachable(self, file: str) -> str:
        return (
            f"there is no folder {self.name!r}, and {file} of that name on the hub, revision "
            f"{self.revision or 'main'!r}, is not in the cache and could not be fetched. With a "
            f"network, load it once; without one, give the path of a folder that holds {EXPECTED}, "
            f"or set HF_HOME to a cache that has them"
        )


def _pickled(names: str) -> str:
    return (
        f"pickled weights are not read, for unpickling runs whatever code the file holds: {names}. "
        f"Convert them where you trust them, by save_pretrained(folder) of transformers or "
        f"safetensors.torch.save_file, and load the folder that holds {EXPECTED}"
    )
