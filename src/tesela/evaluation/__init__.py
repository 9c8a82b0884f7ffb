"""Counts, scores and the report."""
