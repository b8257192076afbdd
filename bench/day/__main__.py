"""Run it: `python -m bench.day [--json] [--quick] [--out FILE]`."""

from bench.day.study import main

main()
