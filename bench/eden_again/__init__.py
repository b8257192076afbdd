"""A part of the study of approximate memory, trained, mapped and tried again on the code as it is now."""

DEVICE = "cpu"
