"""The virtual catalogue, served over HTTP."""
