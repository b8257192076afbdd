"""Clients ↔ requests and answers: HTTP, gRPC and KServe, TLS, keys, limits, the metrics page. Nothing computes here."""
