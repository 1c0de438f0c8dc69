"""Compressed forms of networks: fewer channels, operators of low rank, lower precisions, as graphs."""
