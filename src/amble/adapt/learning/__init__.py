"""What needs gradients: reading an ONNX network into torch, surgery, training, retraining. Needs the extra `torch`."""
