"""One network, many devices → a profile of each, kept as they are found.

The history of one device is one piece: its heat and its noise go on from setting to setting, so that settings are no
jobs of their own. Devices need nothing of one another. Simulated ones may be measured anywhere; a real one is measured
here, by itself: it would disturb another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from amble import inputs
from amble.core import files
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.profile import FORMAT as PROFILE
from amble.core.profile import Profile
from amble.core.spreading import OnProgress, Spread, in_order
from amble.jobs.costing import Measure, measured
from amble.runtimes.onnx.refusals import door

__all__ = ["Measuring", "places_of", "survey"]


@dataclass(frozen=True, slots=True)
class Measuring:
    """Measures one device as it was asked."""

    asked: Measure

    def __call__(self, item: tuple[Graph, str], on_progress: OnProgress) -> Profile:
        """Return the device's profile."""
        graph, uri = item
        told = partial(on_progress, f"measuring {uri}")
        return measured(graph, inputs.open(uri), self.asked, told)


@door
def survey(
    model: str | Path,
    devices: Sequence[str],
    *,
    output: Path | str,
    asked: Measure | None = None,
    spread: Spread = in_order,
    on_progress: OnProgress = lambda what, done, total: None,
    sizes: tuple[int, Mapping[str, tuple[int, ...]] | None] = (1, None),
) -> dict[str, Profile]:
    """Measure a network on many devices → the profile of each, also in a file each (`places_of`).

    ``sizes``: the batch, and the shapes of inputs with open axes. What was found is kept beside its place until all is:
    an interrupted call goes on from there. Refused for a device named twice, and where real devices would be measured
    elsewhere than here.
    """
    asked = asked or Measure()
    places = places_of(devices, Path(output))
    for place in places.values():
        files.try_writing(place)
    for each in devices:
        inputs.open(each)  # now, not after the others were measured
    if spread is not in_order:
        for each in devices:
            _refuse_real(each)
    graphs = {each: inputs.load(model, batch=sizes[0], shapes=sizes[1], device=each) for each in devices}
    found = {each: profile for each in devices if (profile := _before(places[each], each, graphs[each], asked))}
    left = [each for each in devices if each not in found]
    with closing(spread(Measuring(asked), [(graphs[each], each) for each in left], on_progress)) as profiles:
        for each, profile in zip(left, profiles, strict=True):
            files.save(profile, _kept(places[each]), PROFILE)
            found[each] = profile
    for each in devices:
        files.save(found[each], places[each], PROFILE)
        _kept(places[each]).unlink(missing_ok=True)
    return {each: found[each] for each in devices}


def places_of(devices: Sequence[str], output: Path) -> dict[str, Path]:
    """Return where the profile of each device goes: to the ``output``, beside others with its name.

    >>> [str(each) for each in places_of(["sim:v100", "sim:v100?seed=3"], Path("profile.json")).values()]
    ['profile-v100.json', 'profile-v100-seed-3.json']
    """
    if len(devices) == 1:
        return {devices[0]: output}
    names = {each: re.sub(r"[^\w.-]+", "-", each.partition(":")[2] or each) for each in devices}
    if len(set(names.values())) < len(devices):
        raise Refused(f"one device is named twice in {', '.join(devices)}; name each once")
    return {each: output.with_name(f"{output.stem}-{name}{output.suffix}") for each, name in names.items()}


def _refuse_real(uri: str) -> None:
    if not inputs.back_end(uri).by_size:
        raise Refused(
            f"{uri} is measured where it is, by itself, and not beside other work; leave --ray out, or spread sim:CHIP "
            f"alone"
        )


def _kept(place: Path) -> Path:
    return place.with_name(f"{place.name}.done")


def _before(place: Path, uri: str, graph: Graph, asked: Measure) -> Profile | None:
    """Return what an interrupted call found of a device; None where it found nothing of this network."""
    kept = _kept(place)
    if not kept.exists():
        return None
    profile = files.load(kept, PROFILE)
    same = profile.subject.digest == graph.digest and profile.where.device == inputs.open(uri).name
    enough = asked.points is None or len(profile.totals) == min(asked.points, len(profile.points))
    return profile if same and enough else None
