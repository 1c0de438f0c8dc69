"""Low rank: kernels become products of smaller ones (MUSCO, Gusak et al. 2019), with ranks that fit a device."""
