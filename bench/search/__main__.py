"""Run it: `python -m bench.search [--json] [--quick] [--out FILE]`."""

from bench.search.study import main

main()
