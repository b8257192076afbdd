"""Run it: `python -m bench.serve_cores [--json] [--quick] [--out FILE]`."""

from bench.serve_cores.study import main

main()
