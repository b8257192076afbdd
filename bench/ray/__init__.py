"""Devices on Ray behind one door: as quick as plain Ray Serve, and nothing lost in silence when something is killed."""

DEVICE = "host"
