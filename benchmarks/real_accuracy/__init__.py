"""Parts of `real_accuracy.py`: sets, splits, rivals, ours, scores."""
