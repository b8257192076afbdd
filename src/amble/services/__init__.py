"""What keeps running: each service in its folder. What levers made reaches a service as nouns of `core` only."""
