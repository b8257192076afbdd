"""Any server, on time, at the least energy: a governor beside an unmodified server, which reads its metrics page."""
