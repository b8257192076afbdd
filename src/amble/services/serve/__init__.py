"""The Open Inference Protocol over HTTP and gRPC: models, admission, metrics, a dashboard, on `stages.control`."""
