"""LULUCF accounting: trajectories, change matrices, Table 4.1 and its checks."""
