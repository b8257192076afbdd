"""Widths at the ends of stairs make pruned networks faster and more accurate than widths blind to stairs do."""

DEVICE = "cpu"
