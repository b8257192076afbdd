"""What ``--device`` says of a cluster -> devices by name, and where each is to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amble.core.errors import Refused

__all__ = ["Place", "placed"]


@dataclass(frozen=True, slots=True)
class Place:
    """A device and where it is: ``RESOURCE=URI`` on a node of Ray that has that resource, a bare URI on any."""

    uri: str
    resource: str | None = None

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read it; what follows ``?`` belongs to the URI."""
        resource, equals, uri = text.partition("=")
        if not equals or "?" in resource:
            return cls(text)
        if not (resource and uri):
            raise Refused(f"device {text!r}: write RESOURCE=URI, as in rack-1=sim:v100, or a URI alone")
        return cls(uri, resource)


def placed(devices: Sequence[str]) -> dict[str, Place]:
    """Return the devices by names of their own."""
    places = [Place.parse(each) for each in devices]
    texts = [place.uri if place.resource is None else f"{place.resource}={place.uri}" for place in places]
    return {
        text if texts.count(text) == 1 else f"{text}#{texts[: index + 1].count(text)}": place
        for index, (text, place) in enumerate(zip(texts, places, strict=True))
    }
