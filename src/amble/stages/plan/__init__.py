"""Graph, CostModel and Deadline → Schedule."""
