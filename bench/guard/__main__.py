"""Run it: `python -m bench.guard [--json] [--quick] [--out FILE]`."""

from bench.guard.study import main

main()
