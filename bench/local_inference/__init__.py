"""What the published single-clock problems save, in every reading of how they were solved."""

DEVICE = "cpu"
