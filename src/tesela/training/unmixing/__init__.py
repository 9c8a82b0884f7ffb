"""Training of models for abundances."""
