"""A governor beside real servers keeps its objective with little quota, at little cost of its own."""

DEVICE = "host"
