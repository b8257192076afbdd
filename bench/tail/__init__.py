"""Widths at the ends of stairs make pruned networks faster at equal accuracy, and more accurate at equal time.

Than widths blind to stairs; how much they win over good rules of thumb is judged beside that.
"""

DEVICE = "cpu"
