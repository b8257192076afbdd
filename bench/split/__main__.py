"""Run it: `python -m bench.split [--json] [--quick] [--out FILE]`."""

from bench.split.study import main

main()
