"""What makes the data that amble ships: chips, memories, and the bundled network."""
