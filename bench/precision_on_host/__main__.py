"""Run it: `python -m bench.precision_on_host [--json] [--quick] [--out FILE]`."""

from bench.precision_on_host.study import main

main()
