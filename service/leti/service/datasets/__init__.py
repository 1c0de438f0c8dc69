"""Datasets as files: written for whoever wants them, read from whoever sends them, and trained on as they are."""
