"""What lower voltages of memory can save at most in each system, beside the averages that were published."""

DEVICE = "cpu"
