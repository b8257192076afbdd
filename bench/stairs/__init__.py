"""Staircases of widths are measured in minutes here, and predict how long narrower networks take."""

DEVICE = "cpu"
