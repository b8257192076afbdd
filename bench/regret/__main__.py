"""Run it: `python -m bench.regret [--json] [--quick] [--out FILE]`."""

from bench.regret.study import main

main()
