"""What ``amble serve`` does: opens a device for real clients, and serves models on it until it is told to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from amble import bundled
from amble.core import files
from amble.core.errors import Refused, how_to_install
from amble.core.schedule import Deadline
from amble.inputs import BUNDLED, execution, open_for_serving, twin
from amble.runtimes.onnx.refusals import door
from amble.services.serve import front
from amble.services.serve.front import Doors, OnReady
from amble.services.serve.models import samples, settings, tailoring
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.options import Options
from amble.services.serve.models.settings import Settings, parted
from amble.services.serve.models.shelf import Shelf
from amble.services.serve.processes.parent import Wanted, serve_apart
from amble.services.serve.processes.places import Place, places
from amble.services.serve.requests.admission import Listener
from amble.services.serve.telling.recording import Recorder, beside
from amble.stages.control.engine import Totals
from amble.stages.control.governors.named import governor as governor_named

__all__ = ["Serve", "by_name", "fronts_for", "named", "refuse_shapes_of_none", "serve", "served", "wishes"]

_ENGINES = 4  # that one front parses for


@dataclass(frozen=True, slots=True)
class Serve:
    """Models and a device; where clients come in, and how they are answered.

    Several devices, or CPUs of this machine (``host:0-3``), have an engine each in its own process, and ``fronts``
    processes before them that talk to clients; one device is served from this process alone unless ``fronts`` are
    asked for.

    ``models``: ONNX files, ``fashion-resnet`` (bundled), schedules of ``amble plan``, each also as ``NAME=FILE``, and
    with what is said of it alone as ``FILE?seq=128&examples=FILE.npz&batch=8`` (`settings`); those in the folder
    ``repository`` are served too. ``objective`` is the deadline of requests that bring none.
    ``log`` is the file for what happened, which ``check`` and ``fit`` read; one beside it for each model where there
    may be several (`recording`).
    """

    models: tuple[str, ...]
    device: tuple[str, ...] = ("host",)
    fronts: int | None = None
    objective: Deadline | str | None = None
    repository: Path | None = None
    doors: Doors = field(default_factory=Doors)
    options: Options = field(default_factory=Options)
    log: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what no server can begin with."""
        governor_named(self.options.governor)
        if not self.models and self.repository is None:
            raise ValueError("nothing to serve: name a model, or a repository of models")
        if self.repository is not None and not self.repository.is_dir():
            raise Refused(f"{self.repository} is no folder; make one with MODEL/1/model.onnx in it")

    @property
    def places(self) -> tuple[Place, ...]:
        """Return where engines run. Refused where places overlap, or are not there."""
        return places(self.device)

    @property
    def about(self) -> str:
        """Return how the user knows what is served."""
        return ", ".join(self.models) or str(self.repository)


def serve(
    models: Sequence[str],
    *,
    device: str | Sequence[str] = "host",
    fronts: int | None = None,
    objective: Deadline | str | None = None,
    repository: Path | str | None = None,
    doors: Doors | None = None,
    options: Options | None = None,
    log: Path | str | None = None,
    on_ready: OnReady = lambda addresses, stop: None,
) -> Totals:
    """Serve models over the Open Inference Protocol until SIGTERM, Ctrl-C, or ``stop`` as ``on_ready`` is told it.

    The arguments are those of `Serve`.
    """
    folder, kept = (None if each is None else Path(each) for each in (repository, log))
    devices = (device,) if isinstance(device, str) else tuple(device)
    rules = (doors or Doors(), options or Options(), kept)
    return served(Serve(tuple(models), devices, fronts, objective, folder, *rules), on_ready)


@door
def served(asked: Serve, on_ready: OnReady = lambda addresses, stop: None) -> Totals:
    """Do what `serve` does, as one request asks for it."""
    objective, paths, said = wishes(asked)
    where = asked.places
    if num_fronts := fronts_for(where, asked.fronts):
        refuse_apart(asked)
        apart = Wanted(where, num_fronts, asked.options, objective, paths, asked.repository, said)
        return serve_apart(apart, asked.doors, on_ready)
    (place,) = where
    opened, runner, by_size = open_for_serving(place.uri, threads=asked.options.threads, make=Shelf)
    recorders: tuple[Listener, ...] = ()
    if asked.log is not None:
        files.try_writing(asked.log)
        alone = len(asked.models) == 1 and asked.repository is None
        recorders = (Recorder(opened, beside(asked.log, alone=alone), deadline=objective),)
    loader = ModelLoader(opened, runner, asked.options, objective, by_size, twin(place.uri), said, execution(place.uri))
    return front.serve(
        opened,
        loader.load,
        asked.doors,
        named=paths,
        folder=asked.repository,
        on_ready=on_ready,
        listeners=(*((_spans(),) if asked.options.trace else ()), *recorders),
    )


def wishes(asked: Serve) -> tuple[Deadline | None, dict[str, Path], dict[str, Settings]]:
    """Read what is asked for → the deadline, and file and settings of each model; refused where it cannot be served."""
    objective = Deadline.parse(asked.objective) if isinstance(asked.objective, str) else asked.objective
    paths, said = by_name(asked.models, asked.repository)
    refuse_shapes_of_none(list(paths.values()), asked)
    return objective, paths, said


def by_name(models: Sequence[str], repository: Path | None) -> tuple[dict[str, Path], dict[str, Settings]]:
    """Read all models → file and settings of each, by name. Refused where two have the same name."""
    paths: dict[str, Path] = {}
    said: dict[str, Settings] = {}
    for name, path, words in map(named, models):
        other = paths.get(name) or (None if repository is None else repository / name)
        if other is not None and (name in paths or other.is_dir()):
            raise Refused(f"{other} and {path} are both called {name}; give one another name, as in other={path}")
        paths[name], said[name] = path, words
    return paths, said


def fronts_for(wanted: Sequence[Place], fronts: int | None) -> int:
    """Return how many fronts to start: 0 is a server of one process, which one device without CPUs of its own gets.

    A front parses for about four engines. Refused where none is to serve what one process cannot.
    """
    several = len(wanted) > 1 or bool(wanted[0].cpus)
    if fronts is None:
        return -(-len(wanted) // _ENGINES) if several else 0
    if several and not fronts:
        named_so = ", ".join(each.name for each in wanted)
        raise Refused(f"--fronts 0 serves one device from one process, not {named_so}: ask for 1 or more")
    return fronts


def refuse_apart(asked: Serve) -> None:
    """Refuse what only a server of one process does."""
    way_out = "leave it out, or serve one device with --fronts 0"
    if asked.log is not None:
        raise Refused(f"--log is kept by a server of one process: {way_out}")
    if asked.doors.regions is not None:
        raise Refused(f"--shared-memory is offered by a server of one process: {way_out}")


def _spans() -> Listener:
    """Return what sends spans; Refused without the extra."""
    try:
        return import_module("amble.services.serve.telling.tracing").spans()  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise Refused(f"traces need {error.name}: {how_to_install('trace')}") from error


def named(model: str) -> tuple[str, Path, Settings]:
    """Read ``NAME=FILE?WORDS``, or a file that is named after itself; both may have ``=`` in them, a name has no slash.

    Words are what is said of this model alone.
    """
    file, words = parted(model)
    name, path = _found(file)
    return name, path, settings.read(words, f"{name}?{words}")


def refuse_shapes_of_none(paths: Sequence[Path], asked: Serve) -> None:
    """Refuse a shape that is of no input of any model; those of a repository may come later."""
    if asked.options.shapes and asked.repository is None:
        known = {name for path in paths for name in samples.input_names(tailoring.network_of(path))}
        if unknown := asked.options.shapes.keys() - known:
            told = ", ".join(sorted(known)) or "none"
            raise Refused(f"--shape {min(unknown)}:…: no model that is served has such an input; inputs are {told}")


def _found(model: str) -> tuple[str, Path]:
    if model == BUNDLED:
        return model, bundled.model_path()
    if Path(model).exists():
        return Path(model).stem, Path(model).absolute()
    starts = [at for at, letter in enumerate(model) if letter == "=" and at and "/" not in model[:at]]
    for at in starts:
        if model[at + 1 :] and Path(model[at + 1 :]).exists():
            return model[:at], Path(model[at + 1 :]).absolute()
    path = model[starts[0] + 1 :] if starts else model
    raise Refused(f"there is no model {path}; name an ONNX file, a schedule, or {BUNDLED}")
