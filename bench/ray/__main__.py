"""Run it: `python -m bench.ray [--json] [--quick] [--out FILE]`, in an environment with the extra ray."""

from bench.ray.study import main

main()
