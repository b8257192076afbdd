"""A sweep over two workers of a Ray cluster gives what two bare processes give, nearly as quickly."""

DEVICE = "host"
