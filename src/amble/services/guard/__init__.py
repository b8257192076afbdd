"""``amble guard``: a small process that owns the right to set clocks, lends it, and puts everything back."""
