"""The parts of experiments/attribution.py."""
