"""Run it: `python -m bench.eden [--json] [--quick] [--out FILE]`."""

from bench.eden.study import main

main()
