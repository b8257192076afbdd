"""Simulated chips keep close to real ones at clocks and workloads that no number was fitted to."""

DEVICE = "cpu"
