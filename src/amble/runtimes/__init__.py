"""What reads and runs networks: ONNX Runtime, and synthetic graphs for tests and teaching."""
