"""Many devices under one power budget: who gets the next watt, who serves the next request, and both in virtual time."""
