"""One folder a claim: its study, its training, plot and log where it has them, and its last result."""
