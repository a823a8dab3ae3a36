"""Scripts, each a question, a command, a figure, numbers: `python -m experiments.NAME --help`."""
