"""Abundance map against reference shares: scores, calibration, figures and the report."""
