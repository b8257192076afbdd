"""Questions between processes: each is answered once, or its asker hears that nobody will."""

from __future__ import annotations

import threading
from multiprocessing import Pipe
from typing import Any

import pytest

from amble.core.errors import Refused
from amble.runtimes.remote.fault import Fault
from amble.services.serve.processes.control import Control, Gone


def pair(handlers: dict[str, Any], **more: Any) -> tuple[Control, Control]:
    first, second = Pipe()
    return Control(first, {}), Control(second, handlers, **more)


def test_answers_and_errors_come_back_as_they_are() -> None:
    def fault() -> None:
        raise Fault(404, "no such model")

    def refused() -> None:
        raise Refused("no right")

    near, far = pair({"double": lambda x: 2 * x, "fault": fault, "refused": refused, "wrong": lambda: 1 // 0})
    assert near.ask("double", 21).result(10) == 42
    with pytest.raises(Fault, match="no such model") as found:
        near.ask("fault").result(10)
    assert found.value.status == 404
    with pytest.raises(Refused, match="no right"):
        near.ask("refused").result(10)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        near.ask("wrong").result(10)
    near.close()
    far.close()


def test_what_takes_long_holds_nothing_up() -> None:
    gate = threading.Event()
    near, far = pair({"wait": lambda: gate.wait(20), "quick": lambda: 1}, slow=("wait",))
    waiting = near.ask("wait")
    assert near.ask("quick").result(10) == 1
    assert not waiting.done()
    gate.set()
    assert waiting.result(10)
    near.close()
    far.close()


def test_nobody_waits_for_one_that_is_gone() -> None:
    gate, ended = threading.Event(), threading.Event()
    first, second = Pipe()
    near = Control(first, {}, on_end=ended.set)
    waiting = near.ask("anything")
    second.close()
    with pytest.raises(Gone):
        waiting.result(10)
    assert ended.wait(10)
    with pytest.raises(Gone):
        near.ask("later").result(10)
    gate.set()


def test_hanging_up_wakes_whoever_listens_and_closes_nothing_under_its_hands() -> None:
    for _ in range(200):
        ended = threading.Event()
        first, second = Pipe()
        near, far = Control(first, {}, on_end=ended.set), Control(second, {})
        near.close()
        assert ended.wait(10)
        assert first.closed
        with pytest.raises(Gone):
            near.ask("anything").result(10)
        far.close()
