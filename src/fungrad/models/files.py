"""Where the files of a model are: in a folder, or on the Hugging Face hub and then in its cache."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
from pathlib import Path
from typing import Any

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EXPECTED = f"config.json and {WHOLE}, or config.json, {INDEX} and the parts that it names"
_PART = r"\w([\w.-]*\w)?"
_HUB_NAME = re.compile(rf"(?!.*(--|\.\.)){_PART}(/{_PART})?")


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
        TypeError: it is neither a string nor a path.
        FileNotFoundError: it is neither a folder nor the form of a name on the hub.
        ValueError: it is a file, or a folder comes with a revision.
    """

    def __init__(self, name_or_path: Any, revision: str | None = None):
        if not isinstance(name_or_path, str | os.PathLike):
            raise TypeError(
                f"name_or_path must be a folder, or a name on the hub, got {name_or_path!r}"
            )
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

    def find(self, *files: str) -> Path | None:
        """The path of the first of the files that the model has, or None where it has none of them.

        The cache goes before the hub: a model that was loaded once needs no network.

        Raises:
            FileNotFoundError: it is on the hub, not in the cache, and cannot be fetched.
            ImportError: a name on the hub without the extra `hub`.
        """
        for look in (self._here, self._fetched):
            for file in files:
                if (path := look(file)) is not None:
                    return path
        return None

    def _here(self, file: str) -> Path | None:
        if self.folder is not None:
            path = self.folder / file
            return path if path.is_file() else None
        hub, errors = extra("huggingface_hub"), extra("huggingface_hub.errors")
        with contextlib.suppress(errors.LocalEntryNotFoundError):
            options = {"revision": self.revision, "local_files_only": True}
            return Path(hub.hf_hub_download(self.name, file, **options))

    def _fetched(self, file: str) -> Path | None:
        if self.folder is not None:
            return None
        hub, errors = extra("huggingface_hub"), extra("huggingface_hub.errors")
        try:
            return Path(hub.hf_hub_download(self.name, file, revision=self.revision))
        except errors.LocalEntryNotFoundError as error:
            raise FileNotFoundError(
                f"there is no folder {self.name!r}, and {file} of that name on the hub, revision "
                f"{self.revision or 'main'!r}, is not in the cache and could not be fetched. With "
                f"a network, load it once; without one, give the path of a folder that holds "
                f"{EXPECTED}, or set HF_HOME to the place of a cache that has them"
            ) from error
        except errors.EntryNotFoundError:
            return None

    def json(self, file: str) -> Any:
        """What the file holds, or None where the model has none of that name.

        Raises:
            ValueError: it holds no JSON.
        """
        path = self.find(file)
        return None if path is None else _read(path)

    def weights(self) -> list[Path]:
        """The safetensors files.

        Raises:
            FileNotFoundError: there are none, or a part is missing.
            ValueError: there are pickled files only.
        """
        path = self.find(WHOLE, INDEX)
        if path is None:
            raise self._without_weights()
        if path.name == WHOLE:
            return [path]
        parts = {file: self.find(file) for file in sorted(set(_read(path)["weight_map"].values()))}
        missing = [file for file, path in parts.items() if path is None]
        if missing:
            raise FileNotFoundError(
                f"{self.name!r} lacks {', '.join(missing)}, which its {INDEX} names"
            )
        return [path for path in parts.values() if path is not None]

    def _without_weights(self) -> Exception:
        files = () if self.folder is None else self.folder.iterdir()
        pickled = sorted(path.name for path in files if path.suffix in PICKLES)
        if pickled:
            return ValueError(_pickled(", ".join(pickled)))
        return FileNotFoundError(
            f"{self.name!r} must hold {EXPECTED}; it has no weights that are safetensors"
        )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} holds no JSON: {error}") from error


def _pickled(names: str) -> str:
    return (
        f"pickled weights are not read, for unpickling runs whatever code the file holds: {names}. "
        f"Convert them where you trust them, by save_pretrained(folder) of transformers or "
        f"safetensors.torch.save_file, and load the folder that holds {EXPECTED}"
    )
