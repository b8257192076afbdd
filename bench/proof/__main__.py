"""Run it: `python -m bench.proof [--json] [--quick] [--out FILE]`."""

from bench.proof.study import main

main()
