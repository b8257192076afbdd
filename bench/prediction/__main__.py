"""Run it: `python -m bench.prediction [--json] [--quick] [--out FILE]`."""

from bench.prediction.study import main

main()
