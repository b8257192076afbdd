"""Schedule, Device and arrivals → Log."""
