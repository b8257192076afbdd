"""What needs gradients: an ONNX network read into torch, trained, written as ONNX again. Needs the extra ``torch``."""
