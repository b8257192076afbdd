"""A file and what is said of it → a model ready to be served: shapes, proved batches, measured rungs, a governor."""
