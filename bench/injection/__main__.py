"""Run it: `python -m bench.injection [--json] [--quick] [--out FILE]`."""

from bench.injection.study import main

main()
