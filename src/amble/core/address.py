"""A device's URI ↔ its parts. Nothing else takes URIs apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlencode

from amble.core.errors import Refused

__all__ = ["Address", "cpu_list"]


@dataclass(frozen=True, slots=True)
class Address:
    """A device's URI, read: ``sim:jetson-tx2?governor=schedutil`` is a scheme, a name and options."""

    scheme: str
    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Read a URI. Refused where its options are not like ``governor=schedutil&seed=3``.

        >>> Address.parse("sim:jetson-tx2?seed=3")
        Address(scheme='sim', name='jetson-tx2', options={'seed': '3'})
        """
        address, _, query = uri.partition("?")
        scheme, _, name = address.partition(":")
        try:
            options = dict(parse_qsl(query, strict_parsing=True)) if query else {}
        except ValueError as error:
            raise Refused(f"{uri!r}: the options after ? are not like seed=3&governor=schedutil") from error
        return cls(scheme, name, options)

    def having(self, **options: str) -> Address:
        """Return the address with these options beside, or in place of, its own."""
        return replace(self, options={**self.options, **options})

    def __str__(self) -> str:
        """Write it as it is read."""
        address = f"{self.scheme}:{self.name}" if self.name else self.scheme
        return f"{address}?{urlencode(self.options)}" if self.options else address


def cpu_list(text: str) -> tuple[int, ...]:
    """Read a list of CPUs as Linux writes them. Refused for anything else.

    >>> cpu_list("0-2,6")
    (0, 1, 2, 6)
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise Refused(f"cpus={text} is not a list of CPUs; write cpus=0-3 or cpus=4,6")
        if dash and int(last) < int(first):
            raise Refused(f"cpus={text} runs backwards; write the lower number first")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))
