"""Orthophotos and SIOSE AR to a cascade of experts."""
