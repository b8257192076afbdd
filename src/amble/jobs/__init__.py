"""One function a verb: the wiring of the stages, and the loops that cross them.

Every function takes and gives artefacts; none prints. The command line calls these functions and nothing else.
"""

from amble.inputs import BUNDLED, devices, labelled, load, open, restore  # noqa: A004
from amble.jobs.artefacts import LOG, PROFILE, REPORT, SCHEDULE, VARIANTS, Artefact, export_files, read, save, show
from amble.jobs.checking import check, plan
from amble.jobs.costing import OnProgress, again, costs_for, costs_of, fit, import_layers, measure, predict

__all__ = [
    "BUNDLED",
    "LOG",
    "PROFILE",
    "REPORT",
    "SCHEDULE",
    "VARIANTS",
    "Artefact",
    "OnProgress",
    "again",
    "check",
    "costs_for",
    "costs_of",
    "devices",
    "export_files",
    "fit",
    "import_layers",
    "labelled",
    "load",
    "measure",
    "open",
    "plan",
    "predict",
    "read",
    "restore",
    "save",
    "show",
]
