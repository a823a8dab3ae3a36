# Each target does all its own set-up; it needs Python 3.11 or newer and pip, and uses uv if present.
#
#   make demo      backpropagation on real data; ends by naming the page that it wrote
#   make test      the tests, with the examples of README, docs and docstrings
#   make bench     fungrad against jax.grad and every manual checkpoint policy: time, memory, tracing
#   make lint      ruff format, ruff check, and pyright on src
#   make format    rewrite the code the way lint wants it
#   make docs      write the generated pages of docs/ again
#   make clean     remove environments and caches; runs/ stays
#
#   make test TESTS="tests/test_notation.py -k kron"      a part of the tests
#   make bench BENCH="--programs lstm --rounds 5"         a part of the programs; --help says more
#   make test PYTHON=python3.12 VENV=.venv-3.12           another interpreter, in its own environment

VENV  = .venv
TESTS =
BENCH =
JOBS  = auto

python = $(VENV)/bin/python
# What is installed depends on pyproject.toml alone, so the stamp bears its checksum.
stamp = $(VENV)/.installed-$(shell cksum < pyproject.toml | cut -d ' ' -f 1)

.PHONY: help demo test bench lint format docs clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(stamp)-experiments
	@$(python) -m experiments.demo

# The workers share the cores, so each one computes on a single thread.
test: $(stamp)-test
	@OMP_NUM_THREADS=1 XLA_FLAGS="--xla_cpu_multi_thread_eigen=false $$XLA_FLAGS" \
	    $(python) -m pytest --numprocesses=$(JOBS) --maxprocesses=8 --dist=worksteal $(TESTS)

# Alone on the machine, or the times mean little.
bench: $(stamp)-experiments
	@$(python) -m benchmarks.gradients $(BENCH)

lint: $(stamp)-dev
	@failed=0; \
	$(python) -m ruff format --check . || failed=1; \
	$(python) -m ruff check . || failed=1; \
	$(python) -m pyright --pythonpath $(python) || failed=1; \
	exit $$failed

format: $(stamp)-dev
	@$(python) -m ruff check --fix-only --quiet .
	@$(python) -m ruff format .

docs: $(stamp)-docs
	@$(python) -m docs.generate

clean:
	rm -rf .venv .venv-* .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(stamp)-%:
	@PYTHON="$(PYTHON)" tools/environment $(VENV) $* $@
