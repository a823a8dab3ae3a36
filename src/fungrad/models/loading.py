"""Published models: their weights, and CLIP's tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fungrad.models.building import shapes
from fungrad.models.files import EXPECTED, Files, extra
from fungrad.models.layouts import layout_of
from fungrad.models.model import Model
from fungrad.models.weights import Tensors, filled


def load(
    name_or_path: Any, revision: str | None = None, *, dtype: Any = None, strict: bool = True
) -> tuple[Model, Any]:
    """A published model with its weights, from a folder or from the Hugging Face hub.

    A folder holds config.json and model.safetensors, or the latter in parts and
    model.safetensors.index.json, as `save_pretrained` of transformers writes them. Those on the
    hub are fetched once; later the cache has them and no network is needed. Give a commit as the
    revision, so that the weights stay the same. What the config says decides the model:

        ResNetForImageClassification, ViTForImageClassification          scores [..., m]
        ResNetModel, ViTModel                                            pooled features [..., d]
        CLIPModel                                                        `Similarity`
        CLIPVisionModel, CLIPTextModel                                   pooled features [..., d]
        CLIPVisionModelWithProjection, CLIPTextModelWithProjection       embeddings [..., m]

    Images are [..., H, W, C] and already normalised: transformers' pixel_values with the channels
    last. Outputs and gradients are those of transformers at test time. A tensor that is no
    parameter is ignored: one of integers, or named num_batches_tracked, position_ids, mask_token
    or ...buffer.

    Args:
        name_or_path: a folder, or "owner/name".
        revision: on the hub: the commit, tag or branch; "main" if None.
        dtype: of the parameters; that of the file if None.
        strict: whether a tensor that the model has no place for is an error; else it is ignored.

    Returns:
        (apply, params) as `resnet`, `vit`, `clip` or `text_tower` gives them; `apply.config` is the
        model's configuration.

    Raises:
        TypeError: name_or_path is neither a string nor a path.
        FileNotFoundError: no such folder, no weights in it, or a name on the hub that is neither
            cached nor to be fetched; the message has the expected files.
        ValueError: tensors that are missing, unknown or of another shape, each with its name;
            pickled weights, an architecture or an activation that is not supported.
        ImportError: the extra `hub` is missing.

    >>> try:
    ...     load("pytorch_model.bin")
    ... except ValueError as error:
    ...     print(str(error).partition(",")[0])
    pickled weights are not read

    Source: [he2016], [dosovitskiy2021], [radford2021].
    """
    files = Files(name_or_path, revision)
    config = files.json("config.json")
    if config is None:
        raise FileNotFoundError(f"{files.name!r} must hold {EXPECTED}; it has no config.json")
    with contextlib.ExitStack() as stack:
        tensors = Tensors(files.weights(), stack)
        layout = layout_of(config, tensors.shapes)
        apply, params = shapes(layout.architecture, **layout.options)
        return apply, filled(params, layout.name_of, tensors, dtype, strict)


# ---------------------------------------------------------------------------- texts

START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


class Tokenizer:
    """CLIP's: from texts to ids [N, length], each a start token, the text, an end token, padding.

    A longer text is cut.

    Attributes:
        encoding: the `tokenizers.Tokenizer` that cuts texts to pieces.
        length: T.
        start: the id of the start token.
        end: the id of the end token.
        pad: the id of the padding; the end token's unless the model's files say another.
    """

    def __init__(self, encoding: Any, length: int, pad: str):
        ids = [encoding.token_to_id(token) for token in (START, END, pad)]
        if None in ids:
            raise ValueError(f"the vocabulary must have {START}, {END} and {pad}, got ids {ids}")
        self.encoding, self.length = encoding, length
        self.start, self.end, self.pad = ids

    def __call__(self, texts: str | Sequence[str]) -> np.ndarray:
        texts = [texts] if isinstance(texts, str) else list(texts)
        wrong = [text for text in texts if not isinstance(text, str)]
        if wrong:
            raise TypeError(f"texts must be strings, got {wrong[0]!r}")
        ids = np.full((len(texts), self.length), self.pad, np.int32)
        for row, text in zip(ids, texts, strict=True):
            words = self.encoding.encode(text, add_special_tokens=False).ids[: self.length - 2]
            row[: len(words) + 2] = [self.start, *words, self.end]
        return ids


def tokenizer(name_or_path: Any, revision: str | None = None, *, length: int = 77) -> Tokenizer:
    """CLIP's tokenizer: byte pairs of lower-case words.

    Args:
        name_or_path: a folder, or "owner/name" on the hub, with tokenizer.json, or with vocab.json
            and merges.txt.
        revision: on the hub: the commit, tag or branch; "main" if None.
        length: T, the number of ids of a text.

    Returns:
        a function from a text, or several, to int32 ids [N, T]: what `clip` takes.

    Raises:
        FileNotFoundError: the files are not there.
        ValueError: a vocabulary without start and end tokens, or a length below 2.
        ImportError: the extra `hub` is missing.

    >>> try:
    ...     tokenizer("./nowhere/at/all")
    ... except FileNotFoundError as error:
    ...     print(str(error).partition("; ")[2])
    there is no folder './nowhere/at/all'

    Source: [radford2021]; byte pairs [sennrich2016].
    """
    if length < 2:
        raise ValueError(f"length must be at least 2, for the start and end tokens, got {length}")
    files, tokenizers = Files(name_or_path, revision), extra("tokenizers")
    words = files.find("tokenizer.json", "vocab.json")
    if words is not None and words.name == "tokenizer.json":
        encoding = tokenizers.Tokenizer.from_file(str(words))
        encoding.no_truncation()
        encoding.no_padding()
    elif words is not None and (merges := files.find("merges.txt")) is not None:
        encoding = _byte_pairs(tokenizers, str(words), str(merges))
    else:
        raise FileNotFoundError(
            f"{files.name!r} must hold tokenizer.json, or vocab.json and merges.txt"
        )
    config = None
    with contextlib.suppress(FileNotFoundError):  # a model may be cached without it
        config = files.json("tokenizer_config.json")
    pad = (config or {}).get("pad_token") or END
    return Tokenizer(encoding, length, pad if isinstance(pad, str) else pad["content"])


def _byte_pairs(tokenizers, vocabulary, merges):
    """Words in lower case with single spaces; their bytes, paired by the merges."""
    pairs = tokenizers.models.BPE.from_file(
        vocabulary, merges, unk_token=END, end_of_word_suffix="</w>"
    )
    encoding = tokenizers.Tokenizer(pairs)
    encoding.add_special_tokens([START, END])
    normal, split = tokenizers.normalizers, tokenizers.pre_tokenizers
    space = normal.Replace(tokenizers.Regex(r"\s+"), " ")
    encoding.normalizer = normal.Sequence([normal.NFC(), space, normal.Lowercase()])
    words = split.Split(tokenizers.Regex(_WORDS), behavior="removed", invert=True)
    encoding.pre_tokenizer = split.Sequence([words, split.ByteLevel(add_prefix_space=False)])
    return encoding
