"""Verdicts: what the witnesses found, as text, as a notebook shows it, and as fields."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that a witness found.

    Attributes:
        kind: "fault"; "kink", where the gradient is a convention; or "note".
        subject: what was tested.
        witness: who says so.
        argument: the argument whose gradient is meant, such as "params['w']"; may be empty.
        index: the worst entry of that gradient.
        row: the row of the Jacobian that it is in, `None` if no Jacobian is meant.
        got: the value of the gradient under test.
        want: the value by the witness; at a kink the slopes to both sides.
        error: |got − want|.
        tolerance: the error that the arithmetic allows.
        dtype: the format of the gradient.
        count: how many entries disagree.
        size: how many entries there are.
        text: what there is to say without numbers.
        where: the example or the arguments.
    """

    kind: str
    subject: str
    witness: str
    argument: str = ""
    index: tuple[int, ...] = ()
    row: int | None = None
    got: Any = None
    want: Any = None
    error: float = 0.0
    tolerance: float = 0.0
    dtype: str = ""
    count: int = 1
    size: int = 1
    text: str = ""
    where: str = ""

    @property
    def place(self) -> str:
        """The entry, as one would index it: `x[2, 5]`."""
        index = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        row = "" if self.row is None else f", row {self.row} of its Jacobian"
        return f"{self.argument}{index}{row}"

    def __str__(self) -> str:
        head = f"{_MARKS[self.kind]} {self.subject}, {self.witness}: "
        where = f"\n    at          {self.where}" if self.where else ""
        if self.got is None:
            return f"{head}{self.text}{where}"
        wanted = "slopes are " if self.kind == "kink" else "should be  "
        what = f"{self.count} of {self.size} entries {self.text or 'disagree'}; the worst is"
        if self.size == 1:
            what = f"{self.text or 'disagrees'}:"
        got = "value" if self.witness == "values" else "gradient"
        lines = [
            f"{head}{what} {self.place}",
            f"    {got:<11} {_number(self.got)}   ({self.dtype})",
            f"    {wanted} {_number(self.want)}",
        ]
        if self.kind == "fault":
            lines.append(f"    error       {self.error:.2e}, allowed {self.tolerance:.2e}")
        return "\n".join(lines) + where


_MARKS = {"fault": "✗", "kink": "∧", "note": "·"}


def _number(x: Any) -> str:
    if isinstance(x, tuple):
        return " and ".join(map(_number, x))
    return f"{x:.10g}"


NO_EXAMPLE = "examples"
_PROVE = """\
  It needs a function that meets it, with arguments: examples={key: (function, *arguments)}; or
  prove that function, by fungrad.check.assert_vjp(function, *arguments, rules=book)."""


@dataclass(frozen=True)
class Verdict:
    """What all witnesses found of a subject; true if none of them found a fault.

    Attributes:
        subject: what was tested.
        findings: faults, kinks and notes.
        compared: how many numbers each witness compared; a witness with 0 had nothing to say.
        silent: the witnesses that could not be asked, at some of the arguments, and the reasons.
    """

    subject: str
    findings: tuple[Finding, ...] = ()
    compared: Mapping[str, int] = field(default_factory=dict)
    silent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.faults

    def __bool__(self) -> bool:
        return self.passed

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are faults."""
        return tuple(f for f in self.findings if f.kind == "fault")

    @property
    def kinks(self) -> tuple[Finding, ...]:
        """The findings at points where the gradient is a convention."""
        return tuple(f for f in self.findings if f.kind == "kink")

    @property
    def row(self) -> str:
        """The verdict in a line, as for a table."""
        mark = "✗" if self.faults else "✓" if any(self.compared.values()) else "·"
        counts = Counter(finding.kind for finding in self.findings)
        remarks = [f"{n} {kind}{'s' * (n > 1)}" for kind, n in counts.items()]
        remarks += [f"silent: {', '.join(self.silent)}"] if self.silent else []
        numbers = f"{sum(self.compared.values()):>9,} numbers"
        return f"{mark} {self.subject:<32} {numbers}   {'; '.join(remarks)}".rstrip()

    def __str__(self) -> str:
        spoke = [f"{name} {count}" for name, count in self.compared.items() if count]
        if self.passed:
            agreed = "all witnesses agree" if spoke else "no witness had anything to say"
            head = f"{'✓' if spoke else '·'} {self.subject}: {agreed}"
        else:
            worst = self.faults[0]
            place = f" at {worst.place}" if worst.place else ""
            head = f"✗ {self.subject}: wrong{place}, says {worst.witness}"
        lines = [head, *map(str, self.findings)]
        if spoke:
            lines.append(f"  numbers compared: {', '.join(spoke)}")
        lines += [f"  silent: {name}: {'; '.join(why)}" for name, why in self.silent.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@dataclass(frozen=True)
class BookVerdict(Verdict):
    """What all witnesses found of a rulebook; true if no rule has a fault.

    Attributes:
        rules: the verdict on each rule, by the name of its primitive, or its key in `replace`.
        formats: the formats in which the examples were taken.
        seconds: how long that took.
    """

    rules: Mapping[Any, Verdict] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def unproven(self) -> tuple[str, ...]:
        """The rules that have no example, and so are not proven."""
        return tuple(self.silent.get(NO_EXAMPLE, ()))

    def __str__(self) -> str:
        wrong = [repr(name) for name, verdict in self.rules.items() if not verdict]
        count = f"{len(wrong)} of {len(self.rules)} rules wrong: {', '.join(wrong)}"
        head = "✗ " + count if wrong else f"✓ all {len(self.rules)} rules right"
        asked = f"{sum(self.compared.values()):,} numbers in {', '.join(self.formats)}"
        unproven = self.unproven
        lines = [
            *(verdict.row for verdict in self.rules.values()),
            *map(str, self.faults),
            *(f"? not proven: {one}" for one in unproven),
            *[_PROVE] * bool(unproven),
            f"{head}{f', {len(unproven)} not proven' * bool(unproven)}; {asked}, "
            f"{self.seconds:.0f} s",
        ]
        return "\n".join(lines)

    __repr__ = __str__
