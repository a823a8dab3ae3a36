"""Contenders, and how each stage of their gradients is measured: in turns, within one process."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import fungrad as fg
from benchmarks.programs import Program, Wrap, plain
from benchmarks.results import JAX, NAMING_POLICIES, NOTHING, OURS, POLICIES, Outcome

SHORTEST = 10e-3
"""Seconds that one sample takes at least: what is faster is called several times for each."""

Builder = Callable[..., Callable[..., Any]]


def contenders(program: Program) -> dict[str, Builder]:
    """What builds each contender's gradient of `factor` times the loss, anew at each call."""
    theirs = program.of_known_length or program.loss
    found = {
        OURS: lambda factor=1.0: fg.grad(times(factor, program.loss(plain))),
        NOTHING: lambda factor=1.0: fg.grad(times(factor, program.loss(plain)), save="nothing"),
        JAX: lambda factor=1.0: jax.grad(times(factor, theirs(plain))),
    }
    if not program.eager:
        for name, wrap in policies(program.names).items():
            found[name] = lambda factor=1.0, wrap=wrap: jax.grad(times(factor, theirs(wrap)))
    return found


def times(factor: float, loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss, so many times."""
    return lambda *arguments: factor * loss(*arguments)


def policies(names: tuple[str, ...]) -> dict[str, Wrap]:
    """`jax.checkpoint` with each policy that a user could choose."""
    known = jax.checkpoint_policies
    found = {name: getattr(known, name) for name in POLICIES}
    if names:
        found |= {name: getattr(known, name)(*names) for name in NAMING_POLICIES}
    return {name: partial(jax.checkpoint, policy=policy) for name, policy in found.items()}


def measure(
    program: Program,
    builders: dict[str, Builder],
    traces: int,
    compiles: int,
    rounds: int,
    cold: bool = False,
) -> dict[str, Outcome]:
    """The outcome of each contender.

    Args:
        builders: as of `contenders`.
        traces: how often each is traced and lowered, after a first time that does not count.
        compiles: how often fungrad's and JAX's own are compiled; a policy's is once.
        rounds: how often it is run.
        cold: forget before each trace what JAX and fungrad have cached.
    """
    outcomes = {name: Outcome() for name in builders}
    if program.eager:
        ready = {name: build() for name, build in builders.items()}
    else:
        ready = _compiled(program, builders, outcomes, traces, compiles, cold)
    ready = _agreeing(program, ready, outcomes)
    _run_in_turns(program, ready, outcomes, rounds)
    return outcomes


def _turns(names: Iterable[str], rounds: int) -> Iterator[tuple[int, str]]:
    """The names in another order each round, with the number of the round."""
    order, names = random.Random(0), list(names)
    for i in range(rounds):
        yield from ((i, name) for name in order.sample(names, len(names)))


def _compiled(
    program: Program, builders: dict, outcomes: dict, traces: int, compiles: int, cold: bool
) -> dict[str, Callable[..., Any]]:
    """Each contender's executable, but of those that refuse the program."""
    ready: dict[str, Callable[..., Any]] = {}
    for i, name in _turns(builders, 1 + max(traces, compiles)):
        outcome = outcomes[name]
        if outcome.refused:
            continue
        samples = outcome.samples if i > 0 else {}
        if cold:
            jax.clear_caches()
        try:
            with _undisturbed():
                for stage, factor in (("trace", 2.0 + i), ("again", 1.0)):
                    gradient = jax.jit(builders[name](factor))
                    traced = _timed(samples, stage, partial(gradient.trace, *program.arguments))
                lowered = _timed(samples, "lower", traced.lower)
                if 0 < i <= (compiles if name in (OURS, JAX) else 1):
                    executable = ready[name] = _timed(samples, "compile", lowered.compile)
                    memory = executable.memory_analysis().temp_size_in_bytes
                    samples.setdefault("memory", []).append(memory)
        except Exception as error:  # whatever a contender raises is what is reported of it
            outcome.refused = _reason(error)
    return {name: ready[name] for name in builders if name in ready}


def _timed(samples: dict[str, list[float]], stage: str, work: Callable[[], Any]) -> Any:
    """The result of `work`; the milliseconds that the processor took are noted."""
    start = time.process_time()
    result = work()
    samples.setdefault(stage, []).append(1e3 * (time.process_time() - start))
    return result


@contextmanager
def _undisturbed():
    """No garbage is collected meanwhile: it would be charged to whoever makes the last piece."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


# ---- agreement -----------------------------------------------------------------------------------


def _agreeing(program: Program, ready: dict, outcomes: dict[str, Outcome]) -> dict:
    """Those whose gradient is that of `jax.grad`, or of the first of them if that one is absent."""
    found: dict[str, Any] = {}
    for name, gradient in ready.items():
        try:
            found[name] = jax.block_until_ready(gradient(*program.arguments))
        except Exception as error:
            outcomes[name].refused = _reason(error)
    reference = found.get(JAX, next(iter(found.values()), None))
    for name, gradient in found.items():
        fault = disagreement(gradient, reference)
        if fault:
            outcomes[name].refused = f"wrong: {fault}"
    return {name: ready[name] for name in found if not outcomes[name].refused}


def disagreement(found: Any, expected: Any, tolerance: float = 1e-2) -> str:
    """Where two gradients differ by more than rounding explains; empty if nowhere.

    ‖a − b‖ ≤ tolerance · (‖b‖ + 0.01 ‖all‖) for each array: some have a gradient that is zero but
    for rounding, such as the bias of an attention's keys. The tolerance is for accelerators, whose
    products of float32 keep ten bits.
    """
    leaves, arrays = jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(found)
    norms = [float(jnp.linalg.norm(b.ravel())) for _, b in leaves]
    total = math.hypot(*norms)
    for (path, b), a, norm in zip(leaves, arrays, norms, strict=True):
        apart = float(jnp.linalg.norm((a - b).ravel()))
        if not apart <= tolerance * (norm + 0.01 * total):
            where = jax.tree_util.keystr(path) or "the argument"
            return f"at {where} the gradients are {apart:.2g} apart, of norm {norm:.2g}"
    return ""


# ---- time per call -------------------------------------------------------------------------------


def _run_in_turns(program: Program, ready: dict, outcomes: dict, rounds: int) -> None:
    calls = {}
    for name, gradient in ready.items():
        _seconds(gradient, program.arguments, 1)
        calls[name] = math.ceil(SHORTEST / _seconds(gradient, program.arguments, 1))
    for _, name in _turns(ready, rounds):
        seconds = _seconds(ready[name], program.arguments, calls[name])
        outcomes[name].samples.setdefault("time", []).append(1e3 * seconds)


def _seconds(gradient: Callable[..., Any], arguments: tuple[Any, ...], calls: int) -> float:
    """The time of a call by the clock, the mean of several."""
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(gradient(*arguments))
    return (time.perf_counter() - start) / calls
