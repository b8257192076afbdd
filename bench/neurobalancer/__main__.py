"""Run it: `python -m bench.neurobalancer [--json] [--quick] [--out FILE]`."""

from bench.neurobalancer.study import main

main()
