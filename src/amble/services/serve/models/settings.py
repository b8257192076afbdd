"""What is said of one model → its settings: after ``?`` of its name, or among the parameters of its configuration.

NAME=model.onnx?seq=128&examples=texts.npz&batch=8          the size of an open axis, by its symbol
NAME=model.onnx?input_ids=1,128                             or the whole shape of an input
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from amble.core.errors import Refused

__all__ = ["Settings", "configured", "parted", "read"]

_FILES = ("examples", "labels")
_NONE = "none"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is said of one model. ``said`` is where, for messages.

    ``sizes``: of open axes by their symbol, or the whole shape of an input by its name. ``examples``: an ``.npz`` file
    of inputs that it is tried and measured with, instead of made-up ones; ``labels``: names of classes, one a line.
    ``batch``: the largest. ``buckets``: lengths up to which requests of unlike length share a batch (None: as the
    server chooses; none: they do not).
    """

    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    examples: Path | None = None
    labels: Path | None = None
    batch: int | None = None
    buckets: tuple[int, ...] | None = None
    said: str = field(default="", compare=False)

    def __bool__(self) -> bool:
        """Tell whether anything is said."""
        return self != Settings()

    @property
    def words(self) -> dict[str, str]:
        """Return the settings as they are written in a configuration: files by their names."""
        found = {name: ",".join(map(str, sizes)) for name, sizes in self.sizes.items()}
        files = {"examples": self.examples, "labels": self.labels}
        found |= {name: path.name for name, path in files.items() if path is not None}
        return found if self.buckets is None else {**found, "buckets": ",".join(map(str, self.buckets)) or _NONE}

    def over(self, other: Settings) -> Settings:
        """Return these settings, and the other's where these say nothing."""
        return Settings(
            {**other.sizes, **self.sizes},
            self.examples or other.examples,
            self.labels or other.labels,
            other.batch if self.batch is None else self.batch,
            other.buckets if self.buckets is None else self.buckets,
            self.said if self else other.said,
        )


def parted(model: str) -> tuple[str, str]:
    """Part ``FILE?WORDS``; a file may have a question mark in its name as long as it is there."""
    name, _, rest = model.partition("=")
    if Path(model).exists() or ("?" not in name and rest and Path(rest).exists()):
        return model, ""
    file, _, words = model.partition("?")
    return file, words


def read(words: str, said: str) -> Settings:
    """Read ``seq=128&examples=texts.npz``; files are looked for from here. Refused with the word that is wrong."""
    found: dict[str, str] = {}
    for word in filter(None, words.split("&")):
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise Refused(f"{said}: {word!r} is not like seq=128&examples=texts.npz&batch=8")
        if name in found:
            raise Refused(f"{said}: {name!r} comes twice")
        found[unquote(name)] = unquote(value)
    settings = _read(found, said)
    for name in _FILES:
        path: Path | None = getattr(settings, name)
        if path is not None and not path.is_file():
            raise Refused(f"{said}: {name}={path}: there is no such file")
    return replace(
        settings,
        examples=settings.examples and settings.examples.absolute(),
        labels=settings.labels and settings.labels.absolute(),
    )


def configured(parameters: Mapping[str, object]) -> Settings:
    """Read the parameters of a configuration; ValueError names the one that is wrong. Files are those it names."""
    said = "model configuration: parameters"
    if "batch" in parameters:
        raise ValueError(f"{said}.batch: say max_batch_size")
    try:
        return _read({name: _text(name, value) for name, value in parameters.items()}, said)
    except Refused as error:
        raise ValueError(str(error)) from error


def _text(name: str, value: object) -> str:
    """Return a parameter's value: ``{"string_value": "128"}``, or plainly."""
    value = value.get("string_value") if isinstance(value, Mapping) else value
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise Refused(f"model configuration: parameters.{name}: a string_value is expected")
    return str(value)


def _read(found: Mapping[str, str], said: str) -> Settings:
    sizes = {name: _numbers(f"{said}: {name}", value) for name, value in found.items() if name not in _WORDS}
    batch, buckets = found.get("batch"), found.get("buckets")
    return Settings(
        sizes,
        _path(found.get("examples")),
        _path(found.get("labels")),
        None if batch is None else _numbers(f"{said}: batch", batch, alone=True)[0],
        None if buckets is None else _buckets(f"{said}: buckets", buckets),
        said,
    )


_WORDS = (*_FILES, "batch", "buckets")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _buckets(what: str, text: str) -> tuple[int, ...]:
    found = () if text == _NONE else _numbers(what, text)
    if list(found) != sorted(set(found)):
        raise Refused(f"{what}={text}: lengths must rise, as in 32,64,128; or write {_NONE}")
    return found


def _numbers(what: str, text: str, *, alone: bool = False) -> tuple[int, ...]:
    words = text.split(",")
    if (alone and len(words) > 1) or not all(word.isdecimal() and 0 < int(word) < 1 << 31 for word in words):
        raise Refused(f"{what}={text[:100]}: {'a number' if alone else 'sizes'} from 1 on, as in {8 if alone else 128}")
    return tuple(map(int, words))
