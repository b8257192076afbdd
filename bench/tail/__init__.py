"""Widths at the ends of stairs make pruned networks faster at equal accuracy, and more accurate at equal time."""

DEVICE = "cpu"
