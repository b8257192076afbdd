"""Numeric precision (PIT's second knob): a network → variants in INT8 and half precision, kept if measured better."""
