"""What somebody else adds to LETI: one module each for a search space, a predictor and a backend."""
