"""Whatever goes wrong, clocks are as they were found within a second, and no wrong energy passes for a right one."""

DEVICE = "cpu"
