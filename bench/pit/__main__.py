"""Run it: `python -m bench.pit [--json] [--quick] [--out FILE]`."""

from bench.pit.study import main

main()
