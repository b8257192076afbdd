"""A fleet of mixed chips under one power budget costs less than today's routing at fixed clocks, in virtual time."""

DEVICE = "sim"
