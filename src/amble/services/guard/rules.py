"""The allow-list, a YAML file → who may set which clocks of which device.

::

    allow:
      - device: nvml:0
        users: [ann, 1001]        # names or numbers
        core_mhz: [600, 1380]     # a range left out is the device's own
        memory_mhz: [877, 877]
        power_w: [100, 250]
"""

from __future__ import annotations

import pwd
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from amble.core.errors import Refused
from amble.core.point import Clocks

__all__ = ["Rule", "Rules", "read_rules"]

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the file."""

    device: str
    users: tuple[str | int, ...]
    core_mhz: Range | None = None
    memory_mhz: Range | None = None
    cpu_mhz: Range | None = None
    power_w: Range | None = None

    def admits(self, clocks: Clocks) -> bool:
        """Tell whether every knob of a setting lies in its range."""
        pairs = (
            (clocks.core_hz, self.core_mhz, 1e6),
            (clocks.memory_hz, self.memory_mhz, 1e6),
            (clocks.cpu_hz, self.cpu_mhz, 1e6),
            (clocks.power_limit_w, self.power_w, 1.0),
        )
        return all(
            value is None or bounds is None or bounds[0] * unit <= value <= bounds[1] * unit
            for value, bounds, unit in pairs
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """What is allowed, by user number and device. Nothing else is."""

    rules: dict[tuple[int, str], Rule]

    def of(self, uid: int, device: str) -> Rule | None:
        """Return the rule for a user and a device; None where there is none."""
        return self.rules.get((uid, device))

    @property
    def devices(self) -> frozenset[str]:
        """Return every device that somebody may set."""
        return frozenset(device for _, device in self.rules)


@dataclass(frozen=True, slots=True)
class _Document:
    allow: tuple[Rule, ...]


def read_rules(path: Path) -> Rules:
    """Read the allow-list; Refused where the file is missing, damaged, or names users or ranges that do not exist."""
    try:
        document = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), _Document)
    except OSError as error:
        raise Refused(f"cannot read the allow-list {path}: {error.strerror}; see amble guard --example") from error
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is no allow-list: {error}; see amble guard --example") from error
    found: dict[tuple[int, str], Rule] = {}
    for rule in document.allow:
        _check(rule, path)
        for user in rule.users:
            found[(_number(user, path), rule.device)] = rule
    return Rules(found)


def _check(rule: Rule, path: Path) -> None:
    for name in ("core_mhz", "memory_mhz", "cpu_mhz", "power_w"):
        bounds: Range | None = getattr(rule, name)
        if bounds is not None and not 0 < bounds[0] <= bounds[1]:
            raise Refused(f"{path}: {name} of {rule.device} must be [LOWEST, HIGHEST], not {list(bounds)}")


def _number(user: str | int, path: Path) -> int:
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise Refused(f"{path}: there is no user {user!r} here; name one, or a number") from error
