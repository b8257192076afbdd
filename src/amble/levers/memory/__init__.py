"""Approximate memory (EDEN): a network's tensors, the error rates they bear → where each may live, proved on data."""
