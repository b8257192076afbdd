from .core.errors import AmbleError as AmbleError, Infeasible as Infeasible, Refused as Refused
from .core.point import Clocks as Clocks, OperatingPoint as OperatingPoint
from .core.schedule import Deadline as Deadline, Schedule as Schedule
from .inputs import devices as devices, load as load, open as open, quickest as quickest, restore as restore
from .jobs.artefacts import export_files as export_files, read as read, save as save, show as show
from .jobs.checking import check as check, plan as plan
from .jobs.examining import examine as examine
from .jobs.costing import (
    costs_for as costs_for,
    costs_of as costs_of,
    fit as fit,
    import_layers as import_layers,
    measure as measure,
    predict as predict,
    tabulate as tabulate,
)
from .jobs.surveying import places_of as places_of, survey as survey
from .levers.memory.approximating import dram as dram
from .levers.precision.quantizing import quantize as quantize
from .levers.widths.pruning import prune as prune
from .services.cluster.forecast import fleet as fleet
from .services.cluster.serving import ray_app as ray_app, serve_on_ray as serve_on_ray
from .services.cluster.sidecars import budget as budget
from .services.cluster.sweeping import on_ray as on_ray
from .services.govern.governing import govern as govern, is_governed as is_governed, probe as probe, prove as prove
from .services.serve.serving import serve as serve
from .stages.measure.transitions import with_transitions as with_transitions
