"""Sampling design, interpreted samples, and design-based estimates of accuracy and area."""
