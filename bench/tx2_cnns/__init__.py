"""Times and powers of known networks on the Jetson TX2 can be told from their layer lists alone."""

DEVICE = "cpu"
