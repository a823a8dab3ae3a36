"""What `experiments.guide` is made of: captioned pictures, two towers, a generator."""
