"""Run it: `python -m bench.tx2_cnns [--json] [--quick] [--out FILE]`."""

from bench.tx2_cnns.study import main

main()
