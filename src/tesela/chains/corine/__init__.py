"""Scenes and CORINE to a class map and its report."""
