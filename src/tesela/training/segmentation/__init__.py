"""Training of networks for class maps."""
