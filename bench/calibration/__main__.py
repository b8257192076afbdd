"""Run it: `python -m bench.calibration [--json] [--quick] [--out FILE]`."""

from bench.calibration.study import main

main()
