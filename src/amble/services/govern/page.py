"""Text of a metrics page → the samples of the series that are wanted.

Reads Prometheus' text format and OpenMetrics: escaped labels, timestamps, exemplars, ``NaN``, ``+Inf`` and ``# EOF``.
Lines of other series are passed over without being parsed: a page of thousands of lines costs little more than the
lines that are used.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache

from amble.core.errors import Refused

__all__ = ["Labels", "Page", "names_of", "read_page"]

Labels = tuple[tuple[str, str], ...]
Page = Mapping[str, tuple[tuple[Labels, float], ...]]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


def read_page(text: str, wanted: Collection[str]) -> Page:
    """Return the samples of the wanted series, in the order of the page; a series that is missing has no entry.

    Refused, with the line, when a line of a wanted series is damaged.
    """
    found: dict[str, list[tuple[Labels, float]]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = _NAME.match(line)
        if match is None or match.group() not in wanted:
            continue
        try:
            sample = _sample(line[match.end() :])
        except ValueError as error:
            raise Refused(f"line {number} of the metrics page cannot be read ({error}): {line[:80]}") from error
        found.setdefault(match.group(), []).append(sample)
    return {name: tuple(samples) for name, samples in found.items()}


def names_of(text: str) -> tuple[str, ...]:
    """Return the names of all series of a page, each once, in order."""
    matches = (_NAME.match(line) for line in text.splitlines())
    return tuple(dict.fromkeys(match.group() for match in matches if match))


def _sample(rest: str) -> tuple[Labels, float]:
    labels: Labels = ()
    rest = rest.lstrip()
    if rest.startswith("{"):
        end = rest.rfind("}") if "#" not in rest else _closing(rest)
        labels, rest = _labels(rest[1:end]), rest[end + 1 :]
    words = rest.split("#", 1)[0].split()
    if not 1 <= len(words) <= 2:
        raise ValueError("one value and at most one time are expected")
    return labels, float(words[0])


def _closing(text: str) -> int:
    """Return where the labels end: the first brace outside quotes."""
    end = text.find("}")
    while end >= 0:
        inside = text[:end].replace("\\\\", "").replace('\\"', "")
        if inside.count('"') % 2 == 0:
            return end
        end = text.find("}", end + 1)
    raise ValueError("the labels do not end")


@lru_cache(maxsize=8192)
def _labels(text: str) -> Labels:
    found, at = [], 0
    while text[at:].strip():
        match = _LABEL.match(text, at)
        if match is None:
            raise ValueError('a label is not like name="value"')
        found.append((match.group(1), _ESCAPED.sub(_unescaped, match.group(2))))
        at = match.end()
    return tuple(found)


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match.group(1), match.group())
