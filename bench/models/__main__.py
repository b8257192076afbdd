"""Build the networks: `python -m bench.models`."""

from bench.models.building import main

main()
