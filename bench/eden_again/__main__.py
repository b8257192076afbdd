"""Run it: `python -m bench.eden_again [--json] [--quick] [--out FILE]`."""

from bench.eden_again.study import main

main()
