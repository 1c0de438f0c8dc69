"""Look-up table: the latency of a network as the corrected sum of its kernels."""
