"""A network, a device, a link, a server → which operators run here, which there, at what clocks; and both halves."""
