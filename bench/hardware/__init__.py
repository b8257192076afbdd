"""Networks on the hardware that is here; `gpu.py` is for a machine with an NVIDIA GPU, by hand."""

DEVICE = "cpu"
