"""docs/benchmarks.md and its figure, written from results."""
