"""Run it: `python -m bench.stairs [--json] [--quick] [--out FILE]`."""

from bench.stairs.study import main

main()
