"""The server answers more requests in time than other Python servers do, on one core."""

DEVICE = "host"
