"""Few measured points of many workloads → samples of the parameters of the device and of each workload.

Theory of operation. The logarithm of what was measured is the response (`response`) plus a smooth misfit (Matern
kernel over the knobs) plus noise, with heavy tails where a workload has points to spare. Device parameters are shared
by all workloads. Both are found together from several starts by Levenberg-damped Gauss-Newton steps; the matrix of
the normal equations is an arrow (device block, one block a workload), solved by its Schur complement. What the
workloads say about the device is counted as `pooled_workloads` of them at most: they are measured at the same few
points, so that a misfit of the form repeats in each and would otherwise be taken for certainty. Around each start the
posterior is taken as normal (Laplace); samples of the device are drawn from all starts in proportion to a tempered
evidence, and every workload is fitted again under each.

Shape letters: s start or sample, w workload, n point of one workload, m = outputs x n, d device parameters, z workload
parameters, a and b active ones of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.stages.fit.drawing import evenly, mirrored
from amble.stages.fit.parameters import DEVICE, WORKLOAD, active, rows_of, start
from amble.stages.fit.posterior import Observations, Posterior, Settings, trusted
from amble.stages.fit.response import respond, respond_time, sloped

__all__ = ["covariance", "predicted", "sampled"]

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

_STEP = 1e-3
_SETTLED = 1e-3  # relative change of what is minimised, from which on it is taken for settled
_UNKNOWN = 1e6  # variance of what was not measured
_SMOOTH = 0.7  # share of the variance that is smooth misfit
_STARTS: tuple[dict[str, float], ...] = (
    {"overlap": -3.0},
    {"overlap": -3.0, "knee": 1.5},
    {"overlap": -1.0},
    {"overlap": -1.0, "knee": -0.5},
    {"overlap": 1.0, "knee": 1.0},
    {"overlap": -2.0, "host": -4.0, "floor": -1.0},
    {"overlap": 1.0, "host": -0.5, "floor": -3.0, "knee": 0.0},
)


@dataclass(frozen=True, slots=True)
class _State:
    device: Floats
    workload: Floats
    sigma: Floats
    trust: Floats


@dataclass(frozen=True, slots=True)
class _Prior:
    """Means and deviations of all parameters, and the indices of those that the table can show."""

    device_mean: Floats
    device_sd: Floats
    device_active: Indices
    mean: Floats
    sd: Floats
    active: Indices


@dataclass(frozen=True, slots=True)
class _Linear:
    """Normal equations of the workloads around a state."""

    residual: Floats  # [s, w, m]
    precision: Floats  # [s, w, m, m]
    slope: Floats  # [s, w, m, b]
    information: Floats  # [s, w, b, b]
    gradient: Floats  # [s, w, b]


def sampled(observed: Observations, settings: Settings) -> Posterior:
    """Fit a device and its workloads; see the module's text."""
    prior = _prior(observed.flags)
    some = _some(observed, settings.most_workloads)
    share = min(1.0, settings.pooled_workloads / len(some.value))
    state = _learnt(some, prior, settings, share)
    rng = np.random.default_rng(settings.seed)
    num_samples = settings.num_samples if some is observed else settings.fewer_samples
    chosen, devices = _devices_drawn(some, prior, state, replace(settings, num_samples=num_samples), (share, rng))
    if some is not observed:
        state, chosen = _of_all(observed, prior, state, settings, chosen)
    state = _State(devices, state.workload[chosen], state.sigma[chosen], state.trust[chosen])
    state = _workloads_refined(observed, prior, state, num_steps=5)
    evidence, covariances = _evidence(observed, prior, state)
    weight = np.exp(settings.weight_share * (evidence - evidence.max(axis=0)))
    drawn = _workloads_drawn(prior, state, covariances, rng)
    return Posterior(state.device, state.workload, drawn, weight / weight.sum(axis=0), state.sigma, state.trust)


def _some(observed: Observations, most: int) -> Observations:
    """Return the problem with at most so many workloads, evenly chosen: enough to tell the device."""
    if len(observed.value) <= most:
        return observed
    rows = np.linspace(0, len(observed.value) - 1, most).round().astype(np.int64)
    return replace(
        observed,
        geometry=rows_of(observed.geometry, rows),
        value=observed.value[rows],
        known=observed.known[rows],
        likeness=observed.likeness[rows],
    )


def _learnt(observed: Observations, prior: _Prior, settings: Settings, share: float) -> _State:
    """Fit the device and its workloads from every start."""
    state = _starts(observed, prior, settings)
    for _ in range(3):
        state = _doubted(observed, _workloads_refined(observed, prior, state, num_steps=5), settings, least=0.03)
    for _ in range(3):
        state = _jointly_refined(observed, prior, state, share, num_steps=10)
        state = _doubted(observed, _rescaled(observed, prior, state, settings, share), settings, least=0.0)
    return state


def _of_all(
    observed: Observations, prior: _Prior, state: _State, settings: Settings, chosen: Indices
) -> tuple[_State, Indices]:
    """Fit all workloads on the devices of the starts that were chosen, learnt from some of them."""
    starts, chosen = np.unique(chosen, return_inverse=True)
    fresh = _starts(observed, prior, settings)
    state = _State(state.device[starts], fresh.workload[starts], state.sigma[starts], fresh.trust[starts])
    for _ in range(3):
        state = _doubted(observed, _workloads_refined(observed, prior, state, num_steps=5), settings, least=0.0)
    return state, chosen


def predicted(observed: Observations, device: Floats, workload: Floats) -> Floats:
    """Logarithms [s, w, m] that parameters predict at the measured points."""
    if observed.outputs == (0,):
        return respond_time(device[:, None, :], workload, observed.geometry)
    both = respond(device[:, None, :], workload, observed.geometry)
    return np.concatenate([both[output] for output in observed.outputs], axis=-1)


def covariance(observed: Observations, sigma: Floats, trust: Floats) -> Floats:
    """Covariance [s, w, m, m] of misfit and noise."""
    num_points = observed.likeness.shape[-1]
    matrix = np.zeros((*trust.shape, trust.shape[-1]))
    for place in range(len(observed.outputs)):
        part = slice(place * num_points, (place + 1) * num_points)
        matrix[..., part, part] = _SMOOTH * (sigma[:, place] ** 2)[:, None, None, None] * observed.likeness
    every = np.arange(trust.shape[-1])
    spread = np.repeat(sigma**2, num_points, axis=1)[:, None, :]
    matrix[..., every, every] += spread * (1 / trust - _SMOOTH)
    known = observed.known[:, :, None] & observed.known[:, None, :]
    return np.where(known, matrix, np.eye(trust.shape[-1]) * _UNKNOWN)


def smooth_share() -> float:
    """Share of the variance of a point that is smooth misfit, which neighbouring points tell of."""
    return _SMOOTH


def _prior(flags: frozenset[str]) -> _Prior:
    return _Prior(
        device_mean=start(DEVICE, flags),
        device_sd=np.array([parameter.sd for parameter in DEVICE]),
        device_active=active(DEVICE, flags),
        mean=start(WORKLOAD, flags),
        sd=np.array([parameter.sd for parameter in WORKLOAD]),
        active=active(WORKLOAD, flags),
    )


def _starts(observed: Observations, prior: _Prior, settings: Settings) -> _State:
    num_starts, num_workloads = len(_STARTS), len(observed.value)
    device = np.tile(prior.device_mean, (num_starts, 1))
    workload = np.tile(prior.mean, (num_starts, num_workloads, 1))
    for number, values in enumerate(_STARTS):
        for index, parameter in enumerate(DEVICE):
            device[number, index] = values.get(parameter.name, device[number, index])
        for index in prior.active.tolist():
            workload[number, :, index] = values.get(WORKLOAD[index].name, prior.mean[index])
    typical = (settings.time_sigma, settings.power_sigma)
    sigma = np.tile([typical[output] for output in observed.outputs], (num_starts, 1))
    return _State(device, workload, sigma, np.ones((num_starts, *observed.value.shape)))


def _residual(observed: Observations, device: Floats, workload: Floats) -> Floats:
    found: Floats = np.where(observed.known, observed.value - predicted(observed, device, workload), 0.0)
    return found


def _quadratic(residual: Floats, precision: Floats) -> Floats:
    found: Floats = np.einsum("swi,swij,swj->sw", residual, precision, residual)
    return found


def _penalty(prior: _Prior, workload: Floats) -> Floats:
    found: Floats = ((((workload - prior.mean) / prior.sd)[..., prior.active]) ** 2).sum(axis=-1)
    return found


def _linear(observed: Observations, prior: _Prior, state: _State, precision: Floats) -> _Linear:
    residual, slope = _sloped(observed, prior, state)
    weighted = precision @ slope
    information = np.swapaxes(slope, -1, -2) @ weighted + np.diag(prior.sd[prior.active] ** -2.0)
    pull = ((state.workload - prior.mean) / prior.sd**2)[..., prior.active]
    gradient = np.einsum("swik,swi->swk", weighted, residual) - pull
    return _Linear(residual, precision, slope, information, gradient)


def _sloped(observed: Observations, prior: _Prior, state: _State) -> tuple[Floats, Floats]:
    """Residuals [s, w, m] and the slopes [s, w, m, b] of what is predicted by the active parameters."""
    both, by_name = sloped(state.device[:, None, :], state.workload, observed.geometry)
    shape = (*state.trust.shape[:2], observed.likeness.shape[-1])
    parts = []
    for output in observed.outputs:
        part = np.zeros((*shape, len(prior.active)))
        for place, index in enumerate(prior.active.tolist()):
            part[..., place] = by_name[output].get(WORKLOAD[index].name, 0.0)
        parts.append(part)
    predicted = np.concatenate([np.broadcast_to(both[output], shape) for output in observed.outputs], axis=-1)
    residual = np.where(observed.known, observed.value - predicted, 0.0)
    return residual, np.where(observed.known[..., None], np.concatenate(parts, axis=-2), 0.0)


def _device_slope(observed: Observations, prior: _Prior, state: _State, residual: Floats) -> Floats:
    slope = np.empty((*residual.shape, len(prior.device_active)))
    for place, index in enumerate(prior.device_active.tolist()):
        moved = state.device.copy()
        moved[..., index] += _STEP
        slope[..., place] = (residual - _residual(observed, moved, state.workload)) / _STEP
    return slope


def _damped(information: Floats, damping: Floats) -> Floats:
    """Add damping, given for the leading axes, in proportion to the diagonal."""
    diagonal = np.einsum("...ii->...i", information)
    found: Floats = information + damping[..., None, None] * diagonal[..., None, :] * np.eye(information.shape[-1])
    return found


def _moved(prior: _Prior, workload: Floats, step: Floats) -> Floats:
    """Step the active parameters of the workloads, at most 2 at once and 5 deviations from the prior in all."""
    moved = workload.copy()
    low, high = (prior.mean - 5 * prior.sd)[prior.active], (prior.mean + 5 * prior.sd)[prior.active]
    moved[..., prior.active] = np.clip(moved[..., prior.active] + np.clip(step, -2, 2), low, high)
    return moved


def _device_moved(prior: _Prior, device: Floats, step: Floats) -> Floats:
    moved, sd, mean = device.copy(), prior.device_sd[prior.device_active], prior.device_mean[prior.device_active]
    stepped = moved[..., prior.device_active] + np.clip(step, -1.5 * sd, 1.5 * sd)
    moved[..., prior.device_active] = np.clip(stepped, mean - 3.5 * sd, mean + 3.5 * sd)
    return moved


def _workloads_refined(observed: Observations, prior: _Prior, state: _State, *, num_steps: int) -> _State:
    """Gauss-Newton steps of the workloads alone, each damped by itself."""
    precision = np.linalg.inv(covariance(observed, state.sigma, state.trust))
    damping = np.full(state.trust.shape[:2], 1e-2)
    for _ in range(num_steps):
        at = _linear(observed, prior, state, precision)
        step = np.linalg.solve(_damped(at.information, damping), at.gradient[..., None])[..., 0]
        workload = _moved(prior, state.workload, step)
        before = _quadratic(at.residual, precision) + _penalty(prior, state.workload)
        after = _quadratic(_residual(observed, state.device, workload), precision) + _penalty(prior, workload)
        better = after < before
        state = replace(state, workload=np.where(better[..., None], workload, state.workload))
        damping = np.where(better, damping * 0.3, damping * 6).clip(1e-5, 1e4)
        if np.all(np.abs(before - after) <= _SETTLED * (1 + before)):
            break
    return state


def _arrow(
    observed: Observations, prior: _Prior, state: _State, at: _Linear, share: float, damping: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Schur complement of the device [s, a, a], its gradient [s, a], the workloads' step [s, w, b] and its slope."""
    slope = _device_slope(observed, prior, state, at.residual)
    weighted = at.precision @ slope
    cross = np.swapaxes(at.slope, -1, -2) @ weighted
    inverse = np.linalg.inv(_damped(at.information, np.broadcast_to(damping[:, None], at.gradient.shape[:2])))
    back = inverse @ cross
    sd = prior.device_sd[prior.device_active]
    own = np.einsum("swik,swil->skl", slope, weighted) - np.einsum("swkl,swkm->slm", cross, back)
    pull = ((state.device - prior.device_mean) / prior.device_sd**2)[:, prior.device_active]
    gradient = np.einsum("swik,swi->sk", weighted, at.residual) - np.einsum("swkl,swk->sl", back, at.gradient)
    step = np.einsum("swkl,swl->swk", inverse, at.gradient)
    return share * own + np.diag(sd**-2.0), share * gradient - pull, step, back


def _objective(observed: Observations, prior: _Prior, state: _State, precision: Floats, share: float) -> Floats:
    misfit = _quadratic(_residual(observed, state.device, state.workload), precision) + _penalty(prior, state.workload)
    pull = ((state.device - prior.device_mean) / prior.device_sd)[:, prior.device_active]
    found: Floats = share * misfit.sum(axis=1) + (pull**2).sum(axis=1)
    return found


def _jointly_refined(observed: Observations, prior: _Prior, state: _State, share: float, *, num_steps: int) -> _State:
    """Gauss-Newton steps of the device and all its workloads; each start is damped by itself."""
    if not len(prior.device_active):
        return _workloads_refined(observed, prior, state, num_steps=num_steps)
    precision = np.linalg.inv(covariance(observed, state.sigma, state.trust))
    damping = np.full(len(state.device), 1e-2)
    best = _objective(observed, prior, state, precision, share)
    for _ in range(num_steps):
        at = _linear(observed, prior, state, precision)
        schur, gradient, step, back = _arrow(observed, prior, state, at, share, damping)
        device_step = np.linalg.solve(_damped(schur, damping), gradient[..., None])[..., 0]
        step = step - np.einsum("swbl,sl->swb", back, device_step)
        tried = replace(
            state,
            device=_device_moved(prior, state.device, device_step),
            workload=_moved(prior, state.workload, step),
        )
        value = _objective(observed, prior, tried, precision, share)
        better = value < best
        state = replace(
            state,
            device=np.where(better[:, None], tried.device, state.device),
            workload=np.where(better[:, None, None], tried.workload, state.workload),
        )
        settled = np.all(np.abs(best - value) <= _SETTLED * (1 + best))
        best = np.where(better, value, best)
        damping = np.where(better, damping * 0.3, damping * 6).clip(1e-5, 1e4)
        if settled:
            break
    return state


def _rescaled(observed: Observations, prior: _Prior, state: _State, settings: Settings, share: float) -> _State:
    """Estimate the size of misfit and noise from what is left over, robustly where many values are."""
    at = _linear(observed, prior, state, np.linalg.inv(covariance(observed, state.sigma, state.trust)))
    fitted = np.einsum("swik,swkl,swjl->swij", at.slope, np.linalg.inv(at.information), at.slope)
    freedom = (1 - np.einsum("swij,swji->swi", fitted, at.precision)).clip(0.02, 1.0)
    num_points = observed.likeness.shape[-1]
    typical = (settings.time_sigma, settings.power_sigma)
    sigma = state.sigma.copy()
    for place, output in enumerate(observed.outputs):
        part = slice(place * num_points, (place + 1) * num_points)
        known = observed.known[:, part]
        free = freedom[..., part][:, known].sum(axis=1)
        squares = (state.trust[..., part] * at.residual[..., part] ** 2)[:, known].sum(axis=1)
        if known.sum() * len(observed.outputs) >= 20:
            ratio = np.abs(at.residual[..., part] / np.sqrt(freedom[..., part]))[:, known]
            squares = (1.4826 * np.median(ratio, axis=1)) ** 2 * free
        more = settings.prior_points
        sigma[:, place] = np.sqrt((share * squares + more * typical[output] ** 2) / (share * free + more))
    return replace(state, sigma=sigma)


def _doubted(observed: Observations, state: _State, settings: Settings, *, least: float) -> _State:
    """Doubt values far from the fit (Student's t), where workloads have values enough to tell."""
    if observed.known.sum(axis=1).max() < settings.robust_points:
        return state
    residual = _residual(observed, state.device, state.workload)
    scale = np.repeat(np.maximum(state.sigma, least), observed.likeness.shape[-1], axis=1)[:, None, :]
    trust = trusted((residual / scale) ** 2)
    plenty = observed.known.sum(axis=1) >= settings.robust_points
    return replace(state, trust=np.where(plenty[:, None], trust, 1.0))


def _evidence(observed: Observations, prior: _Prior, state: _State) -> tuple[Floats, Floats]:
    """Laplace evidence of each workload [s, w], and the covariance of its parameters [s, w, b, b]."""
    matrix = covariance(observed, state.sigma, state.trust)
    at = _linear(observed, prior, state, np.linalg.inv(matrix))
    misfit = _quadratic(at.residual, at.precision) + _penalty(prior, state.workload)
    volume = np.linalg.slogdet(matrix)[1] + np.linalg.slogdet(at.information)[1]
    return -0.5 * (misfit + volume), np.linalg.inv(at.information)


def _devices_drawn(
    observed: Observations, prior: _Prior, state: _State, settings: Settings, drawing: tuple[float, np.random.Generator]
) -> tuple[Indices, Floats]:
    """Draw the start that each sample comes from [s], and its device parameters [s, d]; drawing is share, generator."""
    share, rng = drawing
    evidence = share * _evidence(observed, prior, state)[0].sum(axis=1)
    pull = ((state.device - prior.device_mean) / prior.device_sd)[:, prior.device_active]
    if not len(prior.device_active):
        return rng.choice(len(evidence), settings.num_samples), state.device[:1].repeat(settings.num_samples, axis=0)
    at = _linear(observed, prior, state, np.linalg.inv(covariance(observed, state.sigma, state.trust)))
    schur = _arrow(observed, prior, state, at, share, np.zeros(len(state.device)))[0]
    total = settings.evidence_share * (evidence - 0.5 * (pull**2).sum(axis=1) - 0.5 * np.linalg.slogdet(schur)[1])
    odds = np.exp(total - total.max())
    chosen = evenly(odds / odds.sum(), settings.num_samples, rng)
    root = np.linalg.cholesky(np.linalg.inv(schur))[chosen]
    step = np.einsum("sab,sb->sa", root, mirrored(root.shape[:2], rng))
    device = state.device[chosen].copy()
    mean, sd = prior.device_mean[prior.device_active], prior.device_sd[prior.device_active]
    device[:, prior.device_active] = np.clip(device[:, prior.device_active] + step, mean - 3.5 * sd, mean + 3.5 * sd)
    return chosen, device


def _workloads_drawn(prior: _Prior, state: _State, covariances: Floats, rng: np.random.Generator) -> Floats:
    root = np.linalg.cholesky(covariances + 1e-10 * np.eye(covariances.shape[-1]))
    step = np.einsum("swab,swb->swa", root, mirrored(root.shape[:3], rng))
    drawn = state.workload.copy()
    low, high = (prior.mean - 5 * prior.sd)[prior.active], (prior.mean + 5 * prior.sd)[prior.active]
    drawn[..., prior.active] = np.clip(drawn[..., prior.active] + step, low, high)
    return drawn
