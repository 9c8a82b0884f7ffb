"""A recipe over a grid of settings, as one table."""
