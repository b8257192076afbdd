"""Run it: `python -m bench.govern [--json] [--quick] [--out FILE]`."""

from bench.govern.study import main

main()
