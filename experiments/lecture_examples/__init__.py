"""Every worked example of the lectures and exercises in the seeds, as data and short programs.

Not an experiment: `experiments.lecture` makes a page of them, `tests/seeds` proves them. Each
example runs its system under any differentiator (fungrad, JAX) and yields rows: where the seed
stands, what it prints, what comes out, and, where the seed errs, what is right and why.
"""

from experiments.lecture_examples import (
    seed_000,
    seed_001_graphs,
    seed_001_network,
    seed_001_networks,
    seed_001_neurons,
    seed_002,
    seed_003,
    seed_004,
)

MODULES = (
    seed_000,
    seed_001_neurons,
    seed_001_networks,
    seed_001_graphs,
    seed_001_network,
    seed_002,
    seed_003,
    seed_004,
)

EXAMPLES = tuple(example for module in MODULES for example in module.EXAMPLES)

SEEDS = {
    "000": "A lecture on backpropagation",
    "001": "An assignment with solutions: neurons, networks, computation graphs",
    "002": "An exercise: a ReLU network with five parameters",
    "003": "A lecture on backpropagation: chains, graphs, the regularised classifier",
    "004": "Iris: a 4-n-3 perceptron in matrix form",
}
