"""What a server sets for its process while it runs, and puts back."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from contextlib import ExitStack

from amble.services.serve.process import most_connections, set_niceness, tuned


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_the_interpreter_changes_hands_quickly_only_while_a_server_runs() -> None:
    before_s = sys.getswitchinterval()
    with tuned():
        assert sys.getswitchinterval() < before_s
    assert sys.getswitchinterval() == before_s


def test_servers_of_one_process_end_in_any_order_and_the_last_puts_everything_back() -> None:
    before = (sys.getswitchinterval(), gc.get_threshold(), resource.getrlimit(resource.RLIMIT_NOFILE))
    first, second = ExitStack(), ExitStack()
    first.enter_context(tuned())
    second.enter_context(tuned())
    first.close()
    assert sys.getswitchinterval() < before[0]
    second.close()
    assert (sys.getswitchinterval(), gc.get_threshold(), resource.getrlimit(resource.RLIMIT_NOFILE)) == before


def test_who_talks_to_clients_is_at_least_as_prompt_as_who_computes_and_all_is_put_back() -> None:
    found = []

    def serve() -> None:
        before = niceness()
        with tuned() as computing:
            worker = threading.Thread(target=lambda: found.append(set_niceness(computing) or niceness()))  # type: ignore[func-returns-value]
            worker.start()
            worker.join()
            found.append(niceness())
        found.append(niceness())
        found.append(before)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    computes, talks, after, before = found
    assert talks <= computes == before == after


def test_garbage_is_looked_for_more_rarely_only_while_a_server_runs() -> None:
    before = gc.get_threshold()
    with tuned():
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before


def test_there_are_descriptors_for_all_connections_while_a_server_runs() -> None:
    found = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = min(1024, found[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, found[1]))
    try:
        least = most_connections()
        with tuned():
            allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            assert allowed >= min(found[1], 1 << 16)
            assert 16 <= least <= most_connections() < allowed
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == few
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, found)
