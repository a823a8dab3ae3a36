"""How a seed's numbers are proven: by hand, by fungrad, by JAX, and beside what is printed."""

import re

import numpy as np
import pytest

from experiments.lecture_examples.record import FUNGRAD, JAX, shown

TOLERANCE = 1e-12  # relative to the largest entry; everything is float64

# A right value that a remark states in digits, alone or behind its formula: "−1/√13 = −0.2774".
DIGITS = re.compile(r"(?:.* = )?\(?([-−\d., ;]+)\)?$")


def same(value, other, where):
    value, other = np.squeeze(np.asarray(value)), np.squeeze(np.asarray(other))
    assert value.shape == other.shape, f"{where}: {value.shape} against {other.shape}"
    error = np.max(np.abs(value - other), initial=0.0)
    scale = max(np.max(np.abs(other), initial=0.0), 1.0)
    assert error <= TOLERANCE * scale, f"{where}: {value} against {other}"


def judge(row, where):
    """A row agrees with its seed exactly where it says so, and the right value that it states is
    the computed one."""
    if row.remark is None:
        assert row.agrees, f"{where}: printed {row.printed}, computed {row.value}"
        return
    assert row.remark.right, f"{where}: say what is right"
    assert row.remark.why, f"{where}: say why"
    if row.value is None:
        return
    assert not row.agrees, f"{where}: a slip is claimed, but {row.printed} agrees"
    if stated := DIGITS.match(row.remark.right):
        right = shown(row.lines, row.quantity, stated[1].replace(",", ""), row.value)
        assert right.agrees, f"{where}: {row.remark.right} is stated, computed {row.value}"


@pytest.fixture
def prove():
    """prove(example, by_hand): every value four times over.

    by_hand maps a quantity to its value, derived without automatic differentiation. A printed
    formula that agrees was evaluated to the letter, in NumPy, so it is a derivation by hand
    itself; every other value must be in by_hand.
    """

    def compare(example, by_hand):
        by_hand, used = by_hand(), set()
        rows = zip(example.rows(FUNGRAD), example.rows(JAX), strict=True)
        for row, witness in rows:
            where = f"seed {example.seed}, line {row.lines}, {row.quantity}"
            judge(row, where)
            if row.value is None:
                continue
            same(row.value, witness.value, f"{where}: fungrad against JAX")
            if row.quantity in by_hand or not (row.kind == "formula" and row.agrees):
                assert row.quantity in by_hand, f"{where}: not derived by hand"
                used.add(row.quantity)
                same(row.value, by_hand[row.quantity], f"{where}: fungrad against the hand")
        assert used == set(by_hand), f"derived, but not in the seed: {set(by_hand) - used}"

    return compare
