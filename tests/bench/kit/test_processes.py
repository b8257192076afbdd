"""Servers that are measured: with the block ends all that they have started, however it ends; ports are free."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from bench.kit.processes import ended, free_port
from bench.serve_triton.servers import processor_s

DEAF = "trap '' TERM; echo ready; while :; do sleep 0.01; done"
"""A helper that heeds no signal, as those of some servers."""


def test_a_helper_that_heeds_no_signal_ends_too_when_its_leader_has_and_a_failure_passes() -> None:
    words = ["sh", "-c", f'sh -c "{DEAF}" & echo $!; exec sleep 100']
    leader = subprocess.Popen(words, stdout=subprocess.PIPE, process_group=0)
    assert leader.stdout is not None
    said = {leader.stdout.readline().strip() for _ in range(2)}
    helper = int(max(said - {b"ready"}))
    assert {leader.pid, helper} <= processor_s(leader.pid).keys()
    with pytest.raises(ValueError, match="in the block"), ended(leader):
        raise ValueError("in the block")
    assert leader.returncode == -15
    until_s = time.monotonic() + 10.0
    while _runs(helper) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not _runs(helper)
    leader.stdout.close()


def test_a_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass


def test_the_processors_time_is_told_of_each_process() -> None:
    begun_s = processor_s(os.getpid())[os.getpid()]
    sum(range(3_000_000))
    assert processor_s(os.getpid())[os.getpid()] > begun_s


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
