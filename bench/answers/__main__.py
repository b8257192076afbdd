"""Run it: `python -m bench.answers [--json] [--quick] [--out FILE]`."""

from bench.answers.study import main

main()
