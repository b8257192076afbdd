"""What became of requests and batches → counters, history, logs, traces: what metrics, page and `check` read."""
