"""A day at 64 requests a second is served in virtual time within ten minutes."""

DEVICE = "sim"
