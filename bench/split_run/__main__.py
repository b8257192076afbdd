"""Run it: `python -m bench.split_run [--json] [--quick] [--out FILE]`."""

from bench.split_run.study import main

main()
