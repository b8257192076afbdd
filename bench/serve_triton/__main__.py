"""Run it: `python -m bench.serve_triton [--json] [--quick] [--out FILE]`."""

from bench.serve_triton.study import main

main()
