"""The doors are as quick as those of a server in compiled code, beside the same runtime."""

DEVICE = "host"
