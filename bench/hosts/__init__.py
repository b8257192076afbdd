"""Two hosts on one machine and a bad link between them: network namespaces, TAP devices and a relay of our own."""
