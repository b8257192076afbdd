"""The nouns: frozen data in SI units, and the ports that back ends implement. Imports nothing else of amble."""
