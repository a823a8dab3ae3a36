"""What `experiments.optimizers` compares, one file each."""
