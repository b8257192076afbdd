"""A network on another machine: tensors of the Open Inference Protocol, and a client that sends them to any server."""
