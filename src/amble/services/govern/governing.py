"""Addresses, objectives, devices → a governed server and its log; a log → what it proves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from http.server import ThreadingHTTPServer
from pathlib import Path

from amble.core import files
from amble.core.errors import Refused
from amble.core.log import FORMAT as LOG
from amble.core.log import Governed, Log
from amble.core.ports import Device
from amble.devices import lease
from amble.services.govern import hands as reach
from amble.services.govern import maps, prior, proof
from amble.services.govern.canary import Canary, edges_s, load_request, with_canary
from amble.services.govern.cap import Cap, most_w
from amble.services.govern.eyes import Eyes
from amble.services.govern.fetch import Fetch, Gone, Http, Line, within
from amble.services.govern.head import Head
from amble.services.govern.live import Live, serve_page
from amble.services.govern.objective import Objective
from amble.services.govern.opening import open_hands
from amble.services.govern.page import names_of
from amble.services.govern.proof import Proof
from amble.services.govern.proxy import Proxy, Way, with_proxy
from amble.services.govern.pulse import Beating, Pulse, limit_s
from amble.services.govern.variants import FASTER, Variants, by_program

from amble.services.govern.watching import Journal, Sight, Told, govern as watch  # isort: skip

__all__ = ["Watching", "govern", "is_governed", "probe", "prove"]

_SAVED_S = 60.0
_EXTRA = 0.001  # of the answers may be late by default because clocks are lower
_CANARY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Watching:
    """How servers are watched.

    ``watch``: only look. ``period_s`` [s] between looks, ``control`` the share of the time as found, ``canary`` a file
    with a request and ``canary_hz`` how often it is sent [1/s], ``proxy`` a way such as ``:9000=:8000`` that clients
    take, ``costs`` a measured table or a fit (and ``workload``) of what work takes and draws at each clock. ``for_s``:
    how long [s]; None until interrupted. With ``capacity_hz``, the requests a second that the server answers at the
    fastest clocks, a power cap can be set beside the metrics page (`services.govern.cap`), by who knows ``cap_token``.
    ``variants`` is a program that turns a router to the faster of two variants, and back (`services.govern.variants`).
    """

    watch: bool = False
    period_s: float = 1.0
    control: float = 0.1
    seed: int = 0
    map: Path | None = None
    token: str | None = None
    ca: Path | None = None
    canary: Path | None = None
    canary_hz: float = 0.5
    proxy: str | None = None
    costs: Path | None = None
    workload: str | None = None
    for_s: float | None = None
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    capacity_hz: float | None = None
    cap_token: str | None = None
    extra: float = _EXTRA
    variants: str | None = None

    def __post_init__(self) -> None:
        """Refuse a cap that nobody can set, or that anybody can, and a router that is not to be turned."""
        if self.variants is not None and self.watch:
            raise Refused("--variants turns a router; give no --watch with it")
        if self.capacity_hz is None:
            return
        if self.metrics_port is None or self.watch:
            raise Refused("a cap is set beside the metrics page: give --metrics-port with --capacity, and no --watch")
        if self.cap_token is None and self.metrics_host not in ("127.0.0.1", "localhost", "::1"):
            raise Refused(f"anybody could cap the device through {self.metrics_host}; give --cap-token-file")


def govern(
    urls: Sequence[str],
    *,
    objectives: Sequence[str],
    devices: Sequence[str] = (),
    output: Path | None = None,
    how: Watching = Watching(),
    on_period: Callable[[Told], None] = lambda told: None,
) -> tuple[Log, ...]:
    """Govern servers until told to stop; one log a server. Several on the same devices share their clocks.

    ``objectives`` such as ``ttft p99 < 500ms`` hold for every server. Refused before anything is changed when one
    cannot be judged, when a page does not come, or when another governor holds a device.
    """
    wanted = tuple(map(Objective.parse, objectives))
    if not wanted:
        raise Refused("no --slo: say what must be kept, as in --slo 'latency p99 < 40ms'")
    for each in wanted:
        if how.extra > max(each.allowed, _EXTRA):
            share, extra = 100.0 * each.allowed, 100.0 * how.extra
            raise Refused(f"--extra {extra:g}: '{each}' lets only {share:g} % come late; give less, or none")
    if not urls:
        raise Refused("no address of a metrics page; write http://HOST:PORT/metrics")
    opened = open_hands(devices or (["host"] if how.watch else []))
    canary, proxy = _canary(wanted, how), _proxy(urls, wanted, how)
    with ExitStack() as lines:
        if canary is not None:
            lines.callback(canary.stop)
        if proxy is not None:
            proxy.start()
            lines.callback(proxy.stop)
        opened_lines = [lines.enter_context(closing(_http(url, how).open())) for url in urls]
        sights = [_sight(url, line, wanted, canary or proxy, how) for url, line in zip(urls, opened_lines, strict=True)]
        return _watched(sights, wanted, _beating(opened, how, lines), output, how, on_period)


def _beating(devices: tuple[Device, ...], how: Watching, lines: ExitStack) -> tuple[Device, ...]:
    """Return devices whose clock tells a second process that all is well; unchanged where nothing will be set."""
    if how.watch or not isinstance(devices[0].actuator, lease.LeasedActuator):
        return devices
    pulse = Pulse(lease.state_dir(), limit_s(how.period_s))
    lines.callback(pulse.stop)
    return (replace(devices[0], clock=Beating(devices[0].clock, pulse)), *devices[1:])


def _watched(
    sights: Sequence[Sight],
    wanted: tuple[Objective, ...],
    opened: tuple[Device, ...],
    output: Path | None,
    how: Watching,
    on_period: Callable[[Told], None],
) -> tuple[Log, ...]:
    settings = opened[0].actuator.available() if how.watch else reach.rungs(opened[0].actuator.available())
    slow, draws = reach.slowness(settings, len(wanted)), None
    if how.costs is not None:
        table = prior.known(how.costs, settings, how.workload)
        draws = prior.draws_of_table(table, settings)
        slow = prior.from_table(table, settings, [each.kind for each in wanted])
    hands = reach.Hands(opened, settings, acts=not how.watch)
    if isinstance(opened[0].clock, Beating):
        hands.lapsed = opened[0].clock.lapsed
    cap = _cap(hands, slow, how)  # refused before anything is changed
    change_s = 0.0 if how.watch else hands.tried(opened[0].clock)
    about = tuple(_about(each, wanted, hands, slow, how) for each in sights)
    heads = [replace(_head(each.eyes, wanted, slow, how), change_s=change_s, draws=draws) for each in sights]
    name = "+".join(each.name for each in opened)
    paths = [_numbered(output, index, len(sights)) for index in range(len(sights))]
    journals = [
        Journal(each, name, opened[0].calibration, path, _SAVED_S) for each, path in zip(about, paths, strict=True)
    ]
    live = Live(about)
    end_s = None if how.for_s is None else time.perf_counter() + how.for_s
    with ExitStack() as open_ones:
        if how.metrics_port is not None:
            open_ones.enter_context(_door(serve_page(live.page, how.metrics_port, how.metrics_host, cap)))
        hear = [
            live.told,
            *([cap.told] if cap is not None else ()),
            *_routed(journals, hands, how, open_ones),
            on_period,
        ]
        watch(
            sights,
            heads,
            hands,
            opened[0].clock,
            until=lambda now_s: end_s is not None and time.perf_counter() >= end_s,
            journals=journals,
            on_period=lambda told: _all(hear, told),
        )
    return tuple(each.log(hands.changes) for each in journals)


def _all(hear: Sequence[Callable[[Told], None]], told: Told) -> None:
    for each in hear:
        each(told)


@contextmanager
def _door(server: ThreadingHTTPServer) -> Iterator[None]:
    """Keep a page open while the block runs."""
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _routed(
    journals: Sequence[Journal], hands: reach.Hands, how: Watching, open_ones: ExitStack
) -> Iterator[Callable[[Told], None]]:
    """Yield who turns the router of the first server to the faster variant and back, and marks those periods."""
    if how.variants is None:
        return
    variants = Variants(by_program(how.variants), hands.settings[0])
    open_ones.callback(variants.stop)

    def told(each: Told) -> None:
        if each.server == 0:
            variants.told(each)
            marked = variants.note or ("the faster variant is preferred" if variants.asked == FASTER else "")
            note = "; ".join(filter(None, (each.period.note, marked)))
            journals[0].periods[-1] = replace(each.period, note=note)

    yield told


def _cap(hands: reach.Hands, slow: tuple[tuple[float, ...], ...], how: Watching) -> Cap | None:
    """Let the hands go no further than a cap allows, where one can be set."""
    if how.capacity_hz is None:
        return None
    speed = tuple(1.0 / max(each) for each in slow)
    cap = Cap(most_w(hands.settings, how.costs, how.workload), speed, how.capacity_hz, hands.holds, how.cap_token)
    hands.floor = cap.floor
    return cap


def probe(url: str, *, how: Watching = Watching()) -> maps.Probe:
    """Say what is recognised on a server's page, and what is missing. Refused for a page that does not come."""
    with closing(_http(url, how).open()) as line:
        names = names_of(_first(line.fetch, url))
    return maps.probe(names, maps.load_map(how.map) if how.map else maps.recognise(names))


def prove(log: Log | Path | str) -> Proof:
    """Say what the log of a governed server proves."""
    return proof.prove(files.load(log, LOG) if isinstance(log, Path | str) else log)


def is_governed(path: Path | str) -> bool:
    """Tell whether a file is the log of a governed server."""
    if not Path(path).is_file() or files.kind_of(path) != LOG.kind:
        return False
    return files.load(path, LOG).governed is not None


def _http(url: str, how: Watching) -> Http:
    return Http(url, max(0.25, 0.4 * how.period_s), how.token, how.ca)


def _first(fetch: Callable[[], str], url: str) -> str:
    try:
        return fetch()
    except Gone as reason:
        raise Refused(f"{reason}; is the server up, and {url} its metrics page?") from reason


def _canary(wanted: tuple[Objective, ...], how: Watching) -> Canary | None:
    if how.canary is None:
        return None
    if any(each.kind != "latency" for each in wanted):
        raise Refused("--canary measures whole latencies; write its objective as 'latency p99 < …'")
    return Canary.of(load_request(how.canary), how.canary_hz, wanted, _CANARY_TIMEOUT_S)


def _proxy(urls: Sequence[str], wanted: tuple[Objective, ...], how: Watching) -> Proxy | None:
    if how.proxy is None:
        return None
    if how.canary is not None or len(urls) > 1:
        raise Refused("--proxy measures one server, without --canary; govern others by a process of their own")
    return Proxy(Way.parse(how.proxy), edges_s(wanted))


def _sight(url: str, line: Line, wanted: tuple[Objective, ...], measure: Canary | Proxy | None, how: Watching) -> Sight:
    fetch: Fetch = line.fetch
    text = _first(fetch, url)
    server = maps.load_map(how.map) if how.map else maps.recognise(names_of(text))
    if measure is not None:
        server = with_canary(server) if isinstance(measure, Canary) else with_proxy(server)
        fetch = measure.beside(fetch)
        if isinstance(measure, Canary):
            measure.start()
        text = _first(fetch, url)
    return Sight(within(fetch, 2.0 * _http(url, how).timeout_s, url), Eyes.open(server, wanted, text))


def _head(eyes: Eyes, wanted: tuple[Objective, ...], slow: tuple[tuple[float, ...], ...], how: Watching) -> Head:
    return Head(wanted, eyes.edges_s, eyes.judged_s, slow, how.period_s, how.control, how.seed, how.extra)


def _about(
    sight: Sight, wanted: tuple[Objective, ...], hands: reach.Hands, slow: tuple[tuple[float, ...], ...], how: Watching
) -> Governed:
    eyes = sight.eyes
    source = f"a canary, {how.canary_hz:g} a second" if how.canary else "histograms of the server"
    source = f"a proxy, {how.proxy}" if how.proxy else source
    return Governed(
        eyes.server.server, tuple(map(str, wanted)), eyes.edges_s, eyes.judged_s, hands.settings, slow,
        how.period_s, how.control, how.seed, hands.found, source, not how.watch,
    )  # fmt: skip


def _numbered(output: Path | None, index: int, count: int) -> Path | None:
    if output is None or count == 1:
        return output
    return output.with_name(f"{output.stem}-{index}{output.suffix}")
