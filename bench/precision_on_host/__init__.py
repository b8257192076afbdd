"""Switching between FP32 and INT8 under load holds a higher rate on a real CPU, within the accuracy allowed."""

DEVICE = "host"
