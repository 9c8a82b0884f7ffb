"""One readable training recipe per task."""
