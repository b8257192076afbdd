"""Run it: `python -m bench.sweep [--json] [--quick] [--out FILE]`."""

from bench.sweep.study import main

main()
