"""Loops in time: a recurrent network and differential equations."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

import fungrad as fg
from benchmarks.programs.program import FORMAT, Program, Sized, Wrap, generator, matrix, normal


def lstm(*, steps: int, width: int, batch: int) -> Program:
    """A long short-term memory that reads a sequence and is asked for each next vector."""
    draw = generator()
    params = {
        "W": matrix(draw, 4 * width, width),
        "U": matrix(draw, 4 * width, width),
        "b": np.zeros(4 * width, FORMAT),
        "output": matrix(draw, width, width),
    }
    sequence = normal(draw, steps + 1, batch, width)

    def loss(wrap: Wrap):
        def of(params, sequence):
            def step(state, x):
                return fg.layers.lstm_cell(x, state, params["W"], params["U"], params["b"])

            zeros = jnp.zeros((batch, width), FORMAT)
            body = wrap(step, prevent_cse=False)
            _, h = lax.scan(body, fg.layers.LSTMState(zeros, zeros), sequence[:-1])
            return jnp.mean((fg.layers.linear(h, params["output"]) - sequence[1:]) ** 2)

        return of

    return Program(loss, (params, sequence), scanned=True)


# ---- neural differential equations ---------------------------------------------------------------


def runge_kutta(field, y, h):
    """One step of the classical method of fourth order along dy/dt = field(y)."""
    a = field(y)
    b = field(y + h / 2 * a)
    c = field(y + h / 2 * b)
    d = field(y + h * c)
    return y + h / 6 * (a + 2 * b + 2 * c + d)


def _field(params):
    enter, leave = params
    return lambda y: fg.layers.linear(jnp.tanh(fg.layers.linear(y, *enter)), *leave)


def _flow(width: int, batch: int):
    """The parameters of a field, where the flow starts, and where it shall end."""
    draw = generator()
    params = (
        (matrix(draw, 2 * width, width), np.zeros(2 * width, FORMAT)),
        (matrix(draw, width, 2 * width), np.zeros(width, FORMAT)),
    )
    return params, normal(draw, batch, width), normal(draw, batch, width)


def _fixed(steps: int, h: float):
    """The loss of a flow by a known number of steps."""

    def loss(wrap: Wrap):
        def of(params, start, end, *_):
            def step(y, _):
                return runge_kutta(_field(params), y, h), None

            y, _ = lax.scan(wrap(step, prevent_cse=False), start, length=steps)
            return jnp.mean((y - end) ** 2)

        return of

    return loss


def ode(*, steps: int, width: int, batch: int) -> Program:
    """A neural differential equation, solved by a number of steps that is known."""
    return Program(_fixed(steps, 1 / steps), _flow(width, batch), scanned=True)


def ode_dynamic(*, steps: int, width: int, batch: int) -> Program:
    """A neural differential equation, solved up to a time that only the run knows."""
    h = 1 / steps

    def loss(wrap: Wrap):
        def of(params, start, end, horizon):
            def step(state):
                t, y = state
                return t + h, runge_kutta(_field(params), y, h)

            first = jnp.zeros((), FORMAT), start
            _, y = lax.while_loop(lambda state: state[0] < horizon, wrap(step), first)
            return jnp.mean((y - end) ** 2)

        return of

    # Half a step early, so that rounding does not decide how many there are.
    arguments = (*_flow(width, batch), np.asarray(1 - h / 2, FORMAT))
    return Program(loss, arguments, scanned=True, of_known_length=_fixed(steps, h))


STEPS = dict(steps=64, width=96, batch=64), dict(steps=3, width=8, batch=2)

PROGRAMS = {
    "lstm": Sized(lstm, dict(steps=96, width=128, batch=32), dict(steps=3, width=8, batch=2)),
    "ode": Sized(ode, *STEPS),
    "ode-dynamic": Sized(ode_dynamic, *STEPS),
}
