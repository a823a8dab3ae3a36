"""The parts of `fungrad.diagnose`: what is recorded, how blame is followed, what is said of it."""
