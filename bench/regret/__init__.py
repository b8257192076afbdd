"""Clocks chosen with predicted times and powers cost little more energy than those chosen with measured ones."""

DEVICE = "cpu"
