"""No client ever gets another's answer, through any door, however many ask at once."""

DEVICE = "host"
