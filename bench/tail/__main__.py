"""Run it: `python -m bench.tail [--json] [--quick] [--out FILE]`."""

from bench.tail.study import main

main()
