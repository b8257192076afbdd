"""A network is cut where the device's energy is least, found as fast as it must be, and right under other physics."""

DEVICE = "sim"
