"""The steps of a compression, in order: what is asked, the baseline, precision, plans, rounds, training, the answer."""
