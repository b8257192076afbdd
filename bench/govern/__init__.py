"""A governor beside any server keeps its objectives at the least energy, in virtual time."""

DEVICE = "sim"
