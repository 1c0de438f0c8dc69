"""Pruning: channels and single weights of a network are taken away, the least important first."""
