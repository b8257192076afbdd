"""Times and powers of unseen settings, from a few measured ones, are as good as those of the best known model."""

DEVICE = "cpu"
