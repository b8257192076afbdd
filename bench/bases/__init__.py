"""The small networks that `tail` prunes and `eden` retrains: their data, their training and its log."""
