"""Run it: `python -m bench.card [--json] [--quick] [--out FILE]`."""

from bench.card.study import main

main()
