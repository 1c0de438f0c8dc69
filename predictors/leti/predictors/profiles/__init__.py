"""What runtimes measured of single operators, matched to the kernels of a graph."""
