"""What a diagnosis says: findings, gradient norms, and the story that they make."""

from __future__ import annotations

import html
import linecache
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fungrad.inspect.diagnosis.facts import figure

Index = None | int | tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where it begins.

    Attributes:
        kind: "nan", "inf", "zero" or "unused".
        subject: what is wrong: "the gradient of x", "the output".
        argument: the name of the argument whose gradient it is; `None` for the output.
        entry: the first entry of it that is wrong.
        cause: why, in one sentence.
        cure: what is usually done about it.
        node: the label of the node in the graph; `None` if no operation is to blame.
        file, line: the source line of that node.
        function: the user's function that the line is in.
        is_backward: it was born in the backward pass.
        iteration: of the loop that the node is in, from 0; a tuple in nested loops, outermost
            first.
        example: the index of the example under `jax.vmap`.
        branch: the branch of the cond that the node is in.
        rule: the function and its Jacobian, as the rule states them.
        numbers: those that made it, by their names in the rule.
        result: what they made.
        masked_by: file and line of the where that masks the value, but not the slope.
        way: the source lines from the origin to the result.
    """

    kind: str
    subject: str
    argument: str | None
    entry: tuple[int, ...]
    cause: str
    cure: str
    node: str | None = None
    file: str | None = None
    line: int | None = None
    function: str | None = None
    is_backward: bool = False
    iteration: Index = None
    example: Index = None
    branch: Index = None
    rule: str | None = None
    numbers: dict[str, str] = field(default_factory=dict)
    result: str = ""
    masked_by: tuple[str, int] | None = None
    way: tuple[tuple[str, int], ...] = ()

    @property
    def text(self) -> str:
        """The source line."""
        return linecache.getline(self.file or "", self.line or 0).strip()

    def lines(self) -> list[tuple[str, str]]:
        """The story, as pairs of a head and a text."""
        rows = [("cause", self.cause)]
        if self.line:
            rows.append(("line", f"{_place(self.file, self.line)}    {self.text}".rstrip()))
        if self.node is not None:
            rows.append(("node", self._node()))
        if self.rule:
            rows.append(("rule", re.sub(r"\s{2,}", ",  ", self.rule)))
        if self.numbers:
            given = ", ".join(f"{name} = {text}" for name, text in self.numbers.items())
            rows.append(("numbers", given + (f"  ⇒  {self.result}" if self.result else "")))
        if self.masked_by:
            file, line = self.masked_by
            code = linecache.getline(file, line).strip()
            where = f"{_place(file, line)}    {code}".rstrip()
            rows.append(("masked by", f"{where}    (it masks the value, but not the slope)"))
        if len(self.way) > 1:
            steps = " → ".join(_place(*step) for step in self.way)
            rows.append(("way", f"{steps} → {self.subject}"))
        rows.append(("cure", self.cure))
        return rows

    def _node(self) -> str:
        words = [f"{self.node}, in the {'backward' if self.is_backward else 'forward'} pass"]
        for name in ("iteration", "example", "branch"):
            value = getattr(self, name)
            if value is not None:
                words.append(f"{name} {value}")
        return ", ".join(words)

    @property
    def headline(self) -> str:
        """What is wrong."""
        where = f" at {list(self.entry)}" if self.entry else ""
        words = {
            "nan": f"is NaN{where}",
            "inf": f"is infinite{where}",
            "zero": "is exactly zero",
            "unused": "is exactly zero",
        }
        return f"{self.subject} {words[self.kind]}"

    def __str__(self) -> str:
        rows = [f"  {head:<10} {text}" for head, text in self.lines()]
        return "\n".join([self.headline, *rows])


def _place(file: str | None, line: int) -> str:
    return f"{os.path.basename(file or '?')}:{line}"


@dataclass(frozen=True)
class Norm:
    """The norm of the gradient at a layer's output, or of an argument's gradient.

    Attributes:
        name: a `jax.named_scope` path, a source line, an iteration of a loop, an argument.
        norm: ‖∂J/∂out‖, the root of the sum of squares.
        size: how many entries.
    """

    name: str
    norm: float
    size: int


@dataclass(frozen=True)
class Diagnosis:
    """What `fungrad.diagnose` found; its fields are those of the first finding.

    Attributes:
        findings: all that is wrong, what is born first coming first.
        arguments: the norm of each argument's gradient.
        layers: the norm of the gradient at each layer's output, in the order of the program.
        word: a remark on vanishing or exploding gradients.
    """

    findings: tuple[Finding, ...]
    arguments: tuple[Norm, ...]
    layers: tuple[Norm, ...]
    word: str

    @property
    def healthy(self) -> bool:
        """Whether all gradients are finite, and no argument's is zero throughout."""
        return not self.findings

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in Finding.__dataclass_fields__:
            raise AttributeError(f"a Diagnosis has no {name!r}")
        if self.findings:
            return getattr(self.findings[0], name)
        return Finding.__dataclass_fields__[name].default if name in _OPTIONAL else None

    def __str__(self) -> str:
        if self.healthy:
            return "\n".join(["healthy: all gradients are finite", *self._tables()])
        told = "\n\n".join(map(str, self.findings))
        return told

    __repr__ = __str__

    def _tables(self) -> list[str]:
        rows = ["", "gradient norms of the arguments", *_table(self.arguments)]
        if self.layers:
            rows += ["", "gradient norms in the program, first lines first", *_table(self.layers)]
        return [*rows, "", self.word]

    def _repr_html_(self) -> str:
        if self.healthy:
            return f"<pre>{html.escape(str(self))}</pre>"
        return "".join(map(_as_html, self.findings))


_OPTIONAL = ("is_backward", "numbers")


def _table(norms: Sequence[Norm]) -> list[str]:
    width = max((len(norm.name) for norm in norms), default=0)
    return [f"  {norm.name:<{width}}  {figure(norm.norm)}" for norm in norms]


def _as_html(finding: Finding) -> str:
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(head)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for head, text in finding.lines()
    )
    return f"<b>{html.escape(finding.headline)}</b><table>{cells}</table>"
