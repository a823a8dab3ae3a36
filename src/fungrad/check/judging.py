"""From witnesses to a verdict: all witnesses are heard, and what they say is sorted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from fungrad.check.arrays import formats_of
from fungrad.check.cases import Case
from fungrad.check.claims import Disagreement, Raised, prove
from fungrad.check.kinks import GUILTY, Judgement, judge
from fungrad.check.state import of_calls, of_leak
from fungrad.check.verdict import Finding, Verdict
from fungrad.check.witnesses import WITNESSES, differences_everywhere

# These are heard at the points themselves; where they find kinks, the others go a step aside.
_FIRST = ("reference", "differences")
# These run a function's pullback step by step, or at points of their own.
_OF_FUNCTIONS = ("calls", "zeros")


def checked_witnesses(witnesses: Any) -> list[str]:
    """The names of witnesses that a user gave, of all if that is `None`.

    Raises:
        TypeError: they are no list.
        ValueError: there is no witness of such a name.
    """
    known = [*WITNESSES, *_OF_FUNCTIONS]
    if witnesses is None:
        return known
    if isinstance(witnesses, str) or not isinstance(witnesses, Iterable):
        raise TypeError(
            f"witnesses must be a list of names, got {witnesses!r}; "
            "for one witness write witnesses=['reference']"
        )
    chosen = list(witnesses)
    for name in chosen:
        if name not in known:
            raise ValueError(f"witnesses: there is no {name!r}, only {known}")
    return chosen


def verdict_on(
    subject: str, cases: Sequence[Case], witnesses: Sequence[str] | None = None
) -> Verdict:
    """The verdict of some witnesses, all unless they are named, on cases of one subject."""
    chosen = checked_witnesses(witnesses)
    findings = [finding for case in cases for finding in _contract(case)]
    if "calls" in chosen:
        findings += [finding for case in cases for finding in _calls(case)]
    contracts = {f.where for f in findings if (f.kind, f.witness) == ("fault", "contract")}
    sound = [case for case in cases if case.where not in contracts]
    hearing = _Hearing(sound, findings)
    traced = [name for name in chosen if name in WITNESSES]
    for name in sorted(traced, key=lambda name: name not in _FIRST):
        hearing.hear(name)
    if "zeros" in chosen:
        findings += _at_zeros([case for case in sound if case.vjp is not None and not case.narrow])
    if any(f.kind == "fault" for f in findings):  # slopes of a wrong gradient vouch for nothing
        findings = [f for f in findings if (f.kind, f.witness) != ("note", "second order")]
    findings.sort(key=lambda f: (f.kind != "fault", f.argument == _DIRECTION))
    return Verdict(subject, tuple(findings), hearing.compared, hearing.silent)


class _Hearing:
    """What the witnesses that were heard so far say of some cases."""

    def __init__(self, cases: Sequence[Case], findings: list[Finding]):
        self.cases, self.findings = cases, findings
        self.compared: dict[str, int] = {}
        self.silent: dict[str, tuple[str, ...]] = {}
        self.bent: list[Case] = []  # those that have been found to be at kinks

    def hear(self, name: str) -> None:
        """Hear one more witness."""
        told = list(self.bent)
        aside = [] if name in _FIRST else told
        at = [case.moved() if case in aside else case for case in self.cases]
        if name != "rounding":
            at = [case if case.exact is None else case.exact for case in at if not case.narrow]
        failed, self.compared[name], reasons = prove(name, WITNESSES[name], at)
        self.silent |= {name: reasons} if reasons else {}
        for failure in failed:
            found = list(_sorted_out(failure))
            of = [case for case in self.cases if failure.case in (case, case.exact)]
            if name in _FIRST and any(f.kind != "fault" for f in found):
                self.bent += of
            if any(case in told for case in of):
                found = [f for f in found if f.kind != "kink"]
            self.findings += found
        if name == "differences" and not _names_an_entry(self.findings):
            blamed = [f.case for f in failed if isinstance(f, Disagreement)]
            self.findings += _faults_at_entries(blamed)


def _faults_at_entries(cases: Iterable[Case]) -> Iterator[Finding]:
    """Faults that differences along every entry find."""
    for failure in prove("differences", differences_everywhere, list(dict.fromkeys(cases))).failed:
        if not isinstance(failure, Disagreement) or failure.about == "entries":
            yield from (f for f in _sorted_out(failure) if f.kind == "fault")


def _at_zeros(cases: Sequence[Case]) -> list[Finding]:
    """Faults at zeros: with a third of all entries set to zero, where one-sided slopes decide.

    A function need not be defined there, and JAX's autodiff of the reference may fail: what slopes
    do not refute is no fault.
    """
    at = [(case if case.exact is None else case.exact).with_zeros() for case in cases]
    found = []
    for failure in prove("zeros", WITNESSES["reference"], at).failed:
        if isinstance(failure, Disagreement):
            judged = judge(failure, until=("fault",))
            faults = [entry for entry, judgement in judged if judgement.verdict == "fault"]
            found += [_finding(failure, entry, 1) for entry in faults]
    return found


_DIRECTION = "a random direction"


def _names_an_entry(findings: Sequence[Finding]) -> bool:
    """Whether the faults, if there are any, name an entry of an argument."""
    faults = [f for f in findings if f.kind == "fault"]
    return not faults or any(f.argument != _DIRECTION for f in faults)


def _contract(case: Case) -> Iterator[Finding]:
    """The pullback returns one array per argument, of its shape and dtype.

    That it is weakly typed, where the argument is not, is noted: in sums with narrower arrays it
    would give way.
    """
    for given in (case, case.exact):
        if given is None:
            continue
        with formats_of([*given.points, *given.g]):
            try:
                found = jax.eval_shape(given.pull, list(given.g), list(given.points))
            except Exception as error:  # whatever the code under test raises is its verdict
                yield _of_error(given, "contract", error)
                return
        for path, x, due in zip(case.paths, found, given.points, strict=True):
            if (x.shape, x.dtype) != (due.shape, due.dtype):
                text = (
                    f"the gradient of {path} is {x.dtype}{list(x.shape)}, "
                    f"but {path} is {due.dtype}{list(due.shape)}"
                )
                yield Finding("fault", case.name, "contract", path, text=text, where=case.where)
            elif x.weak_type and not jax.typeof(due).weak_type:
                text = f"the gradient of {path} is weakly typed, {path} is not"
                yield Finding("note", case.name, "contract", path, text=text, where=case.where)


def _calls(case: Case) -> Iterator[Finding]:
    for failure in of_calls(case) if case.vjp is not None else ():
        if isinstance(failure, Finding):
            yield failure
        else:
            yield from _sorted_out(failure)


def _of_error(case: Case, witness: str, error: Exception) -> Finding:
    is_leak = isinstance(error, jax.errors.UnexpectedTracerError)
    text = of_leak(error) if is_leak else f"{type(error).__name__}: {error}"
    return Finding("fault", case.name, witness, text=text, where=case.where)


def _sorted_out(failure: Disagreement | Raised) -> Iterator[Finding]:
    if isinstance(failure, Raised):
        yield _of_error(failure.case, failure.witness, failure.error)
        return
    if not failure.about or failure.case.kink:
        yield _finding(failure, int(failure.entries[0]), len(failure.entries))
        return
    if failure.about == "second order":
        failure = replace(failure, case=failure.case.of_gradients(), about="entries")
    innocent: dict[str, list[tuple[int, Judgement]]] = {"kink": [], "right": []}
    for entry, judgement in judge(failure):
        if judgement.verdict in GUILTY:
            seen = sum(map(len, innocent.values()))
            yield _finding(failure, entry, len(failure.entries) - seen)
        else:
            innocent[judgement.verdict].append((entry, judgement))
    for verdict, several in innocent.items():
        if several:
            entry, judgement = several[0]
            yield _finding(failure, entry, len(several), verdict, judgement)


def _finding(
    wrong: Disagreement, entry: int, count: int, verdict: str = "", judgement: Any = None
) -> Finding:
    index = tuple(map(int, np.unravel_index(entry, wrong.got.shape)))
    got, want = wrong.got.ravel()[entry], wrong.want.ravel()[entry]
    with np.errstate(all="ignore"):
        error = float(np.abs(got - want))
    row = None
    if wrong.rows:
        row, part = index
        point = wrong.case.points[wrong.argument]
        index = tuple(map(int, np.unravel_index(part % point.size, point.shape)))
    kind, text = {
        "": ("fault", ""),
        "kink": ("kink", "at a kink"),
        "right": ("note", f"right by slopes, whatever {wrong.witness} says"),
    }[verdict]
    if verdict == "kink":
        want = (float(judgement.low), float(judgement.high))
    return Finding(
        kind,
        wrong.case.name,
        wrong.witness,
        wrong.path,
        index,
        row,
        got.item(),
        want if isinstance(want, tuple) else want.item(),
        error,
        float(wrong.tolerance.ravel()[entry]),
        wrong.dtype,
        count,
        wrong.got.size,
        text,
        wrong.case.where,
    )
