"""What the forms of a network cost on a platform: by a service's predictor, or by a table of kernels."""
