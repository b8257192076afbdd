"""Run it: `python -m bench.fleet [--json] [--quick] [--out FILE]`."""

from bench.fleet.study import main

main()
