"""Compression that meets a latency budget: a user of the client, of graphs and of their weights."""
