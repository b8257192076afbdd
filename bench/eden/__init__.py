"""Networks mapped to approximate memory keep their accuracy on modules that nobody measured before."""

DEVICE = "cpu"
