"""A hundred thousand requests, good and bad, leave nothing lost and no memory grown."""

DEVICE = "cpu"
