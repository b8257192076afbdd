"""A network → cheaper networks that do the same job, each with what it costs in accuracy."""
