"""A network that was cut and measured → what came of every layer, what others would have chosen, kept or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from amble.core.report import Estimate
from amble.levers.widths import adjusting
from amble.levers.widths.choosing import Pricing
from amble.levers.widths.network import Layer, Widths
from amble.levers.widths.results import Narrowed, Rival
from amble.levers.widths.staircase import Staircase

__all__ = ["leaves_open", "narrowed", "refused", "rivals", "staying", "verdict", "with_ends"]

_NAMED = 4  # layers of one reason
_FLAT = 0.95  # of a layer's time, that its fastest width must be below to be worth a word; less where noise is more


def verdict(ratio: Estimate, loss: Estimate, allowed: float) -> tuple[Literal["kept", "refused"], str]:
    """Keep what loses no more points than allowed, and is faster beyond what its times vary by.

    ``ratio`` is the time after over that before. A loss counts as it was found: few judge by so many examples that the
    end of its interval could decide, so the interval is told.
    """
    if ratio.high is None or ratio.high >= 1.0:
        return "refused", f"is not faster, as far as can be told: takes {with_ends(ratio)} of the time before"
    loses = f"loses {with_ends(loss)} points"
    if loss.value > allowed:
        return "refused", f"{loses}, {allowed:.3g} are allowed: more epochs or a looser budget"
    return "kept", f"{1.0 / ratio.value:.2f} times as fast, {loses}"


def refused(why: str) -> tuple[Literal["kept", "refused"], str]:
    """Refuse what was not worth training."""
    return "refused", why


def staying(reasons: Mapping[str, str]) -> Iterator[str]:
    """Say which layers keep their channels and why; that the last layers do needs no words."""
    layers: dict[str, list[str]] = {}
    for layer, why in reasons.items():
        if "answer" not in why:
            layers.setdefault(why, []).append(layer)
    for why, names in layers.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"stays as it is: {', '.join(names[:_NAMED])}{more}: {why}"


def with_ends(found: Estimate) -> str:
    """Write a value with its interval, where it has one."""
    if found.low is None or found.high is None:
        return f"{found.value:.3g}"
    return f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})"


def leaves_open(loss: Estimate, allowed: float) -> bool:
    """Tell whether a loss may be within what is allowed and may be beyond it, by its interval."""
    return loss.low is not None and loss.high is not None and loss.low <= allowed < loss.high


def narrowed(pricing: Pricing, layer: Layer, widths: Widths) -> Narrowed:
    """Return one layer before and after."""
    network, staircase = pricing.network, pricing.staircases[layer.name]
    inputs = layer.num_inputs, network.num_inputs(layer, widths)
    outputs = layer.num_outputs, network.num_outputs(layer, widths)
    return Narrowed(
        layer=layer.name,
        shape=str(staircase.shape),
        inputs=inputs,
        outputs=outputs,
        stairs=staircase.outputs.edges,
        latency_s=(pricing.alone(layer, {}), pricing.alone(layer, widths)),
        tail=(staircase.tail(inputs[0], outputs[0]), staircase.tail(inputs[1], outputs[1])),
        remark=_remark(staircase, inputs, outputs),
    )


def _remark(staircase: Staircase, inputs: tuple[int, int], outputs: tuple[int, int]) -> str:
    """Say in plain words why a layer is as fast as it was."""
    whole_s = staircase.latency_s(inputs[0], outputs[0])
    flat_s = min(_FLAT, 1.0 - staircase.tolerance) * whole_s
    if min(each.latency_s for each in staircase.points) > flat_s:
        return "no width makes it faster here"
    if staircase.latency_s(inputs[1], outputs[1]) > flat_s and (inputs[0], outputs[0]) != (
        inputs[1],
        outputs[1],
    ):
        return "hardly faster: narrowed for other layers"
    if (inputs[0], outputs[0]) == (inputs[1], outputs[1]):
        return "left as it is: its channels are worth their time"
    return ""


def rivals(pricing: Pricing, budget_s: float) -> Iterator[Rival]:
    """Choose widths in other ways that the staircases predict to take as long."""
    network = pricing.network
    ways: dict[str, Callable[[float], dict[str, int]]] = {
        "by importance alone": lambda share: adjusting.blind(network, share),
        "the same, in multiples of 8": lambda share: adjusting.rounded(network, adjusting.blind(network, share), 8),
        "the same, in multiples of 16": lambda share: adjusting.rounded(network, adjusting.blind(network, share), 16),
        "every layer by one factor": lambda share: adjusting.scaled(network, share),
    }
    for name, at in ways.items():
        widths = adjusting.fit(at, lambda found: pricing.total(found) <= budget_s)
        lost = network.lost(widths) / max(network.lost(dict.fromkeys(network.today, 0)), 1e-30)
        yield Rival(name, widths, pricing.total(widths), lost, network.flops(widths))
