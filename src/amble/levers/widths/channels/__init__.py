"""An ONNX network → which of its channels go together, and the same file with fewer of them. Needs no torch."""
