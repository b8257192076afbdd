"""Run it: `python -m bench.dram_fit [--json] [--quick] [--out FILE]`."""

from bench.dram_fit.study import main

main()
