"""Sentinel-2: granules of level 2A and SAFE products."""
