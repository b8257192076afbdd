"""Run it: `python -m bench.hardware [--json] [--quick] [--out FILE]`, after make setup-peers and make models."""

from bench.hardware.study import main

main()
