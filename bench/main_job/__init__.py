"""A measured plan meets its deadline and needs no more energy than the best single setting, on every chip."""

DEVICE = "sim"
