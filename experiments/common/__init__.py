"""What the experiments share: data sets, the run folder with its page, figures, names, training."""
