"""Many devices under one power budget: who gets the next watt and the next request, and both in virtual time."""
