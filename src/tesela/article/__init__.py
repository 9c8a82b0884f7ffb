"""Article: the figures of the published systems, drawn from a finished run."""
