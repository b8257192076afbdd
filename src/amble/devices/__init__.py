"""What can be opened: simulated chips, recorded tables, this host. Each composes the ports of core."""
