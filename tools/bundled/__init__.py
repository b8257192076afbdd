"""The bundled network and images: how they were made, and the log of the training."""
