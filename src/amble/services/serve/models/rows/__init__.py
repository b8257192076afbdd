"""An ONNX network → whether its rows are independent of one another, proved operator by operator, or why not.

A batch of several clients' rows is only right where row ``i`` of every output follows from row ``i`` of the inputs and
from nothing else. That an open first axis is called "batch" proves nothing: it may be time steps, nodes of a graph, or
points of a cloud. So the rows' axis is followed through the network. Every tensor is *fixed* (the same whatever the
rows are), *rows* (one of its axes holds them, in order, a block of equal size for each), or *sized* (it depends on how
many there are, and only says sizes). An operator whose rule does not show that it keeps rows apart ends the proof, as
does one that has no rule: what is not proved runs alone.
"""

from amble.services.serve.models.rows.verdict import Verdict, proved, proved_file

__all__ = ["Verdict", "proved", "proved_file"]
