"""A second core brings the server as much as it brings the bare runtime."""

DEVICE = "host"
