"""Run it: `python -m bench.main_job [--json] [--quick] [--out FILE]`."""

from bench.main_job.study import main

main()
