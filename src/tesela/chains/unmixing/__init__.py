"""Monthly series to abundances."""
