"""Run it: `python -m bench.govern_real [--json] [--quick] [--out FILE]`."""

from bench.govern_real.study import main

main()
