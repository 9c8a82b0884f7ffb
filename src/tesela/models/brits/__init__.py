"""BRITS: the network, its compiled kernels, the published code to compare with, and its cost."""
