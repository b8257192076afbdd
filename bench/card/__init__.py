"""Cards that nobody knows are measured, predicted and planned for as well as known ones."""

DEVICE = "cpu"
