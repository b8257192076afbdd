"""Run it: `python -m bench.dram_ceiling [--json] [--quick] [--out FILE]`."""

from bench.dram_ceiling.study import main

main()
