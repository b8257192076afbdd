"""Run it: `python -m bench.serve [--json] [--quick] [--out FILE]`."""

from bench.serve.study import main

main()
