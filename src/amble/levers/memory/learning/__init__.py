"""Teaching a network to bear bit errors: EDEN's curriculum, and a better one. Needs the extra ``torch``."""
