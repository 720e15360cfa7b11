"""Grids of experiments: declared in experiments/*.yaml, run as DVC experiments, kept in experiments/results/."""
