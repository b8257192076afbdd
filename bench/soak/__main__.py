"""Run it: `python -m bench.soak [--json] [--quick] [--out FILE]`."""

from bench.soak.study import main

main()
