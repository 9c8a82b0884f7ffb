"""Run a recipe over a grid of settings and compare the scores in one table."""
