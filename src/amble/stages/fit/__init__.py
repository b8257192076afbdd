"""Profile or measured table → CostModel, with its own error."""
