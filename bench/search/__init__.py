"""A thousand operators are planned in a fraction of a second, with a certified distance from the optimum."""

DEVICE = "cpu"
