"""Recipe files and the chains that they describe."""
