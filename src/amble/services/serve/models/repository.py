"""A folder of models, and models named by hand → those that are served; loaded and unloaded while others are served.

Layout: ``MODEL/VERSION/model.onnx`` with an optional ``MODEL/config.pbtxt`` or ``MODEL/config.json``. The highest
version is the one that a request without a version means; which versions are loaded, the configuration says (as in
Triton the latest one unless it says otherwise).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from amble.core.errors import AmbleError, Refused
from amble.runtimes.remote.fault import Fault
from amble.services.serve.models.configuration import Config, parse_config
from amble.services.serve.models.model import Found, Loaded, Loader, Model, Stage

__all__ = ["ReadText", "Repository", "find", "refuse_unknown"]

_LOG = logging.getLogger(__name__)
_FILE = "model.onnx"

ReadText = Callable[[str], Mapping[str, Any]]
"""Protobuf's text form of a model configuration → the same as JSON would say it; ValueError when it is none."""


@dataclass(slots=True)
class Repository:
    """What can be served (``folder`` and ``named``), and what is. Changes are made one at a time.

    ``load`` makes a model ready; it runs in a thread of its own, since it measures.
    """

    admission: Stage
    load: Loader
    folder: Path | None = None
    named: Mapping[str, Path] = field(default_factory=dict)
    read_text: ReadText | None = None
    _served: dict[str, dict[str, Model]] = field(init=False, default_factory=dict)
    _reasons: dict[str, str] = field(init=False, default_factory=dict)
    _coming: set[str] = field(init=False, default_factory=set)
    _changing: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    @property
    def models(self) -> tuple[Model, ...]:
        """Return all that is served."""
        return tuple(model for versions in self._served.values() for model in versions.values())

    def names(self) -> tuple[str, ...]:
        """Return the names of all that can be served."""
        inside = [each.name for each in sorted(self.folder.iterdir()) if each.is_dir()] if self.folder else []
        return tuple(dict.fromkeys([*self.named, *inside]))

    def model(self, name: str, version: str = "") -> Model:
        """Return a model that is served, in its highest version unless one is named; Fault when there is none."""
        versions = self._served.get(name)
        if not versions and name in self._coming:
            raise Fault(503, f"model {name!r} is being loaded: try again")
        if not versions:
            known = ", ".join(self._served) or "none"
            raise Fault(404, f"model {name!r} is not served; served are {known}")
        if not version:
            return next(iter(versions.values()))
        if version not in versions:
            raise Fault(404, f"model {name!r} has no version {version!r}; served are {', '.join(versions)}")
        return versions[version]

    def expect(self, names: Iterable[str]) -> None:
        """Take note of which models are about to be loaded: who asks for one is told to come again."""
        self._coming = set(names)

    def index(self) -> list[dict[str, str]]:
        """List what can be served, and its state."""
        listed = []
        for name in self.names():
            served = self._served.get(name, {})
            for version in served:
                listed.append({"name": name, "version": version, "state": "READY", "reason": ""})
            if not served:
                state = "LOADING" if name in self._coming else "UNAVAILABLE"
                reason = "" if name in self._coming else self._reasons.get(name, "not loaded")
                listed.append({"name": name, "version": "", "state": state, "reason": reason})
        return listed

    async def start(self, name: str, config: str | None = None) -> None:
        """Load a model, or load it anew when its files or its configuration have changed; Fault when it cannot be.

        ``config`` is a configuration as JSON that stands for the one in the folder.
        """
        async with self._changing:
            try:
                await self._start(name, config)
            finally:
                self._coming.discard(name)

    async def _start(self, name: str, config: str | None) -> None:
        found = self._found(name, config)
        if [each.found for each in self._served.get(name, {}).values()] == found:
            return
        self._coming.add(name)
        _LOG.info("loading %s", name)
        try:
            loaded = [await asyncio.to_thread(self._loaded, each) for each in found]
        except (AmbleError, ValueError, OSError) as error:
            self._reasons[name] = str(error)
            raise Fault(400, f"cannot load {name!r}: {error}") from error
        versions = tuple(each.version for each in found)
        made = [Model(each, one, versions) for each, one in zip(found, loaded, strict=True)]
        for model in made:
            if (untrue := model.refuted()) is not None:
                self._reasons[name] = untrue
                raise Fault(400, f"cannot load {name!r}: model configuration: {untrue}")
        await self._replace(name, made)

    async def _replace(self, name: str, made: list[Model]) -> None:
        """Serve versions of a model instead of those before; what waits for one that changed goes on waiting.

        A version that is of another kind now is closed first, one that is no more once the others are there.
        """
        before = self._served.get(name, {})
        after = {model.version: model for model in made}
        for version, old in before.items():
            if version in after and not after[version].answers_alike(old):
                await asyncio.to_thread(self.admission.close, old)
        for model in made:
            await asyncio.to_thread(self.admission.open, model)
            _LOG.info("%s, version %s: %s", name, model.version, model.batching)
        self._served[name] = after
        for version, old in before.items():
            if version not in after:
                await asyncio.to_thread(self.admission.close, old)

    def _loaded(self, found: Found) -> Loaded:
        """Load in a thread of its own. StopIteration cannot leave it: no future takes one, and all would wait."""
        try:
            return self.load(found, self.admission.do)
        except StopIteration as error:
            raise RuntimeError(f"loading {found.name} stopped half-way") from error

    async def stop(self, name: str) -> None:
        """Unload a model; Fault when it is not served."""
        async with self._changing:
            self.model(name)
            _LOG.info("unloading %s", name)
            self._reasons[name] = "unloaded"
            for model in self._served.pop(name, {}).values():
                await asyncio.to_thread(self.admission.close, model)

    def _found(self, name: str, config: str | None) -> list[Found]:
        """Look where a model is; the highest version first."""
        given = None if config is None else _config(name, config)
        if name in self.named:
            path = self.named[name]
            return [Found(name, "1", path, Config(name) if given is None else _placed(given, path.parent, name))]
        if self.folder is None or name not in self.names():
            raise Fault(404, f"model {name!r} is not in the repository; it has {', '.join(self.names()) or 'none'}")
        try:
            return find(self.folder / name, given, read_text=self.read_text)
        except (AmbleError, ValueError) as error:
            self._reasons[name] = str(error)
            raise Fault(400, f"cannot load {name!r}: {error}") from error


def refuse_unknown(parameters: Iterable[str]) -> None:
    """Refuse a load with more than a configuration: files that come in the request are not taken."""
    for name in parameters:
        if name.startswith("file:"):
            raise Fault(
                400, f"parameters: {name[:100]!r}: files are not taken from requests; put them in the repository"
            )
        if name != "config":
            raise Fault(400, f"parameters: {name[:100]!r} means nothing for a load; it takes config")


def find(folder: Path, config: Config | None = None, *, read_text: ReadText | None = None) -> list[Found]:
    """Return the versions of a model in a folder that its configuration wants, the highest first.

    Refused when there are none, or the configuration cannot be read; it is that of the folder unless one is given.
    """
    wanted = replace(config or _read_config(folder, read_text), name=folder.name)
    numbers = [int(each.name) for each in folder.iterdir() if each.name.isdigit() and (each / _FILE).is_file()]
    present = [str(number) for number in sorted(numbers, reverse=True)]
    if wanted.versions:
        chosen = [version for version in present if version in wanted.versions]
    else:
        chosen = present if wanted.every else present[: wanted.latest]
    if not chosen:
        raise Refused(f"{folder} has no version to serve: put one at {folder / '1' / _FILE}")
    wanted = _placed(wanted, folder, folder.name)
    return [Found(folder.name, version, folder / version / _FILE, wanted) for version in chosen]


def _placed(config: Config, folder: Path, name: str) -> Config:
    """Find the files that a configuration names. Refused where they are not in the model's folder."""

    def placed(file: Path | None, field: str) -> Path | None:
        if file is None:
            return None
        found = folder / file.name
        if file.name != str(file) or not found.is_file() or not found.resolve().is_relative_to(folder.resolve()):
            raise Refused(f"model {name!r}: {field}: there is no file {str(file)[:200]!r} in the model's own folder")
        return found

    said = "model configuration: parameters"
    settings = replace(
        config.settings,
        examples=placed(config.settings.examples, f"{said}.examples"),
        labels=placed(config.settings.labels, f"{said}.labels"),
    )
    labels = {
        each: found
        for each, file in config.labels.items()
        if (found := placed(file, f"model configuration: output {each!r}: label_filename")) is not None
    }
    return replace(config, settings=settings, labels=labels)


def _read_config(folder: Path, read_text: ReadText | None) -> Config:
    as_json, as_text = folder / "config.json", folder / "config.pbtxt"
    if _inside(as_json):
        return _named(folder.name, parse_config(_decoded(as_json.read_bytes(), str(as_json))))
    if not _inside(as_text):
        return Config(folder.name)
    if read_text is None:
        raise Refused(f"{as_text} needs the package tritonclient[grpc] to be read; write config.json instead")
    return _named(folder.name, parse_config(read_text(as_text.read_text())))


def _inside(path: Path) -> bool:
    """Tell whether there is such a file; Refused where it is a link that leads out of the repository."""
    if not path.is_file():
        return False
    if not path.resolve().is_relative_to(path.parents[1].resolve()):
        raise Refused(f"{path} is a link that leads out of the repository; put the file itself there")
    return True


def _config(name: str, text: str) -> Config:
    try:
        return _named(name, parse_config(_decoded(text.encode(), "parameters.config")))
    except (Refused, ValueError) as error:
        raise Fault(400, f"cannot load {name!r}: {error}") from error


def _decoded(text: bytes, what: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"{what} is no JSON object: {error}") from error


def _named(name: str, config: Config) -> Config:
    if config.name not in ("", name):
        raise Refused(f"the configuration is that of {config.name!r}, not of {name!r}")
    return replace(config, name=name)
