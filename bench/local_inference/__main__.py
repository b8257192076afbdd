"""Run it: `python -m bench.local_inference [--json] [--quick] [--out FILE]`."""

from bench.local_inference.study import main

main()
