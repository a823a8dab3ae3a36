"""fungrad against jax.grad, one table each: `python -m benchmarks.NAME --help`."""
