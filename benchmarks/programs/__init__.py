"""What is measured: losses of models, written as a researcher would, by name."""

from benchmarks.programs import deep, images, science, sequences
from benchmarks.programs.program import Program, Sized, Wrap, plain

__all__ = ["PROGRAMS", "Program", "Sized", "Wrap", "plain"]

PROGRAMS: dict[str, Sized] = {
    **deep.PROGRAMS,
    **images.PROGRAMS,
    **sequences.PROGRAMS,
    **science.PROGRAMS,
}
