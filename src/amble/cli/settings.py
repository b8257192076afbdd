"""Options from elsewhere than the command line: ``AMBLE_*`` variables and configuration files, none dropped unseen.

Both name an option as the command line does: ``amble check --load L`` is ``AMBLE_CHECK_LOAD=L``, and in a file
``check: {load: L}``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from amble.core.names import distance, nearest

__all__ = ["configure", "long_name", "named_by_variables", "refuse_unknown_variables"]

_USER_FILE = Path("~/.config/amble/config.yaml")
_PREFIX = "AMBLE_"
_OTHERS = ("API_KEYS", "CACHE", "CLOCKS", "DATA", "DEVICE", "EMULATED_CARD", "GPU", "GUARD", "SYSFS_ROOT")
"""Variables that are no option of one verb."""
_MISTYPED = 2  # letters away from a name that amble knows


def long_name(option: click.Parameter) -> str:
    """Return an option's name as it is written, without dashes in front."""
    return max(option.opts, key=len).lstrip("-")


def named_by_variables(command: click.Command) -> None:
    """Let each option of a verb be set by the variable that is named after them."""
    for option in command.params:
        if isinstance(option, click.Option):
            explicit = option.envvar or ()
            others = (explicit,) if isinstance(explicit, str) else tuple(explicit)
            option.envvar = (_variable(command, option), *others)


def refuse_unknown_variables(group: click.Group) -> Iterator[str]:
    """Yield a warning for each ``AMBLE_*`` variable that nothing reads; UsageError for one that is nearly one of ours.

    Other programs may have names of their own that begin alike, so what is far from all of ours is not an error.
    """
    known = {f"{_PREFIX}{name}" for name in _OTHERS}
    for command in group.commands.values():
        known |= {_variable(command, option) for option in command.params if isinstance(option, click.Option)}
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and name not in known:
            likely = nearest(name, known)
            if distance(name, likely) <= _MISTYPED:
                raise click.UsageError(f"the variable {name} is none of amble's; {likely} is meant, or unset it")
            of_verbs = _with_verb(name, known) or likely
            yield f"amble: the variable {name} is none of amble's and is not used; the nearest is {of_verbs}"


def _with_verb(name: str, known: Iterable[str]) -> str:
    """Return the variables that a name nearly is but for the verb, AMBLE_PLAN_DEADLINE for AMBLE_DEADLINE."""
    without = {each: _PREFIX + each.removeprefix(_PREFIX).partition("_")[2] for each in known}
    return " or ".join(sorted(each for each, bare in without.items() if distance(name, bare) <= _MISTYPED))


def configure(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Take this verb's section of the configuration files as defaults; the nearer file wins."""
    group = context.parent.command if context.parent else None
    verbs = group.commands if isinstance(group, click.Group) else {}
    by_name = {long_name(each): each.name for each in context.command.params if isinstance(each, click.Option)}
    defaults: dict[str, Any] = {}
    for file in (path,) if path else (Path(os.path.expanduser(_USER_FILE)), Path("amble.yaml")):
        if path or file.is_file():
            for name, value in _section(file, context.info_name or "", verbs).items():
                if name not in by_name:
                    meant = nearest(name, by_name)
                    raise click.UsageError(f"{file}: {context.info_name} has no option {name}; is {meant} meant?")
                defaults[str(by_name[name])] = value
    context.default_map = defaults


def _variable(command: click.Command, option: click.Option) -> str:
    return f"{_PREFIX}{command.name}_{long_name(option)}".upper().replace("-", "_")


def _section(file: Path, name: str, verbs: Mapping[str, click.Command]) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(file.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise click.UsageError(f"cannot read {file} as YAML: {error}") from error
    section = document.get(name, {}) if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(section, dict):
        raise click.UsageError(f"{file} must map verbs to options, as in 'plan: {{deadline: 20ms}}'")
    for other in sorted(str(key) for key in document if verbs and key not in verbs):
        raise click.UsageError(f"{file} names {other}, which is no verb; is {nearest(other, verbs)} meant?")
    return {str(key).replace("_", "-"): value for key, value in section.items()}
