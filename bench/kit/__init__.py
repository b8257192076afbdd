"""What every bench shares: its document and targets, how old results are, and how their numbers reach the documents."""
