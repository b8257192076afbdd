"""The simulated device is fast enough for a day of traffic to be a matter of minutes."""

DEVICE = "cpu"
