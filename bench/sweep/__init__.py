"""A sweep over two workers of a Ray cluster beside two bare processes that share the work by hand."""
