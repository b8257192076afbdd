"""Run it: `python -m bench.simulate [--json] [--quick] [--out FILE]`."""

from bench.simulate.study import main

main()
