"""Widths that fit the hardware (tail effect): staircases of layers → a narrower network on their edges."""
