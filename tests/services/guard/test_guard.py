"""The guard's decisions, on virtual time over clock files."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import lease
from amble.devices.guarded.protocol import Answer, Ask, decode
from amble.services.guard.guard import Peer
from amble.services.guard.rules import read_rules
from bench.guard.trials import DEVICE, FAULTS, NOBODY, PEER, Faulty, Machine, trial


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_clocks_are_held_while_asked_for_and_put_back_when_released(machine):
    assert machine.hold(1).clocks == Clocks(core_hz=1200e6)  # this file's clock does not follow its bounds
    assert machine.found() == ("600000000", "600000000")
    assert machine.ask(1, Ask("release", DEVICE)).ok
    assert machine.as_found()


def test_a_client_that_ends_loses_its_clocks_at_once(machine):
    machine.hold(1)
    machine.guard.gone(2)
    assert not machine.as_found()
    machine.guard.gone(1)
    assert machine.as_found()


def test_a_client_that_hangs_loses_its_clocks_when_its_lease_is_over(machine):
    machine.hold(1, lease_s=2.0)
    machine.pass_s(1.9)
    assert machine.ask(1, Ask("renew", DEVICE)).ok
    machine.pass_s(1.9)
    assert not machine.as_found()
    machine.pass_s(0.2)
    assert machine.as_found()
    assert "the lease is over" in machine.ask(1, Ask("renew", DEVICE)).text


def test_what_was_found_is_written_before_anything_changes(machine):
    seen: list[tuple[tuple[str, str], ...]] = []
    hold = machine.knob.knob.hold

    class Looking(Faulty):
        def hold(self, clock_hz):
            seen.extend(each.found.values for each in lease.leases(machine.folder / "state"))
            hold(clock_hz)

    machine.knob.__class__ = Looking
    machine.hold(1)
    assert dict(seen[0])[str(machine.bounds.high)] == "1200000000"


def test_two_clients_cannot_hold_one_device(machine):
    machine.hold(1)
    answer = machine.hold(2, 900e6)
    assert not answer.ok
    assert f"held by process {PEER.pid}" in answer.text
    assert machine.found() == ("600000000", "600000000")


def test_what_cannot_be_put_back_is_owed_until_it_can(machine):
    machine.hold(1)
    machine.bounds.high.unlink()
    machine.guard.gone(1)
    assert machine.guard.owed == {DEVICE}
    assert "could not be put back yet" in machine.hold(2).text
    machine.bounds.high.write_text("600000000\n")
    machine.pass_s(0.5)
    assert machine.guard.owed == frozenset()
    assert machine.as_found()


def test_a_full_disk_means_that_nothing_is_changed(machine):
    machine.disk_full = True
    machine.start()
    assert "cannot keep leases" in machine.hold(1).text
    assert machine.as_found()


def test_after_a_boot_old_leases_are_dropped_and_nothing_is_written(machine):
    machine.hold(1)
    path = next((machine.folder / "state").glob("lease-*.json"))
    path.write_text(path.read_text().replace(NOBODY.boot, "another-boot"))
    lease.restore(machine.folder / "state")
    assert machine.found() == ("600000000", "600000000")  # a boot has put these back; here nobody did
    assert lease.leases(machine.folder / "state") == ()


def test_users_that_the_list_does_not_name_get_nothing(machine):
    for do in ("available", "current", "hold", "renew", "release"):
        answer = machine.ask(1, Ask(do, DEVICE, Clocks(600e6)), Peer(1, 77))
        assert "user 77 may not set its clocks" in answer.text
    assert machine.ask(1, Ask("status"), Peer(1, 77)).held == ()


def test_settings_outside_the_allowed_range_are_neither_offered_nor_set(machine):
    offered = machine.ask(1, Ask("available", DEVICE)).available
    assert max(each.core_hz for each in offered) == 900e6
    assert "outside of what the guard's list allows" in machine.hold(1, 1200e6).text
    assert machine.as_found()


@pytest.mark.parametrize("lease_s", [0.0, -1.0, 1e9])
def test_a_lease_without_an_end_is_refused(machine, lease_s):
    assert "a lease of at most 60 s" in machine.hold(1, lease_s=lease_s).text
    assert machine.as_found()


def test_the_status_names_who_holds_what_for_how_long(machine):
    machine.hold(1, lease_s=2.0)
    machine.now_s += 0.5
    (held,) = machine.ask(2, Ask("status")).held
    assert (held.device, held.pid, held.uid, held.clocks) == (DEVICE, PEER.pid, PEER.uid, "core 600 MHz")
    assert held.left_s == pytest.approx(1.5)


def test_clocks_are_as_found_a_second_after_any_of_500_faults(tmp_path):
    rng, seen = random.Random(11), set()
    machine = Machine(tmp_path)
    for _ in range(500):
        seen.add(trial(machine, rng))
        assert machine.as_found()
        assert lease.leases(machine.folder / "state") == ()
    assert seen == set(FAULTS)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=10) | st.sampled_from(["hold", DEVICE, "renew"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["do", "device", "clocks", "lease_s", "core_hz"]), inner, max_size=5)
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_a_client_says_it_gets_an_answer_and_sets_nothing_forbidden(tmp_path_factory, line):
    machine = Machine(tmp_path_factory.mktemp("fuzz", numbered=True))
    answer = decode(machine.guard.answer(1, PEER, line), Answer)
    assert isinstance(answer, Answer)
    machine.guard.gone(1)
    assert machine.as_found()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_allow_list_is_read_by_name_and_number(tmp_path):
    text = "allow:\n  - {device: nvml:0, users: [root, 1001], core_mhz: [600, 1380]}\n"
    rules = read_rules(write(tmp_path / "guard.yaml", text))
    assert rules.of(0, "nvml:0") is rules.of(1001, "nvml:0")
    assert rules.of(0, "nvml:0").admits(Clocks(core_hz=600e6))
    assert not rules.of(0, "nvml:0").admits(Clocks(core_hz=599e6))
    assert rules.of(5, "nvml:0") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("allow: [", "no allow-list"),
        ("allow: 3", "no allow-list"),
        ("allow:\n  - {device: nvml:0, users: [nobody-of-that-name]}", "there is no user"),
        ("allow:\n  - {device: nvml:0, users: [1], core_mhz: [9, 3]}", "must be"),
    ],
)
def test_a_damaged_allow_list_is_refused_with_its_place(tmp_path, text, why):
    with pytest.raises(Refused, match=why):
        read_rules(write(tmp_path / "guard.yaml", text))


def test_a_missing_allow_list_is_refused(tmp_path):
    with pytest.raises(Refused, match="amble guard --example"):
        read_rules(tmp_path / "none.yaml")
