"""Networks with weights are run, trained and compared in PyTorch, and come back as the graphs that they are."""
