"""The five stages, each a function from artefact to artefact. No stage imports another."""
