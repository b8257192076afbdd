"""Calls of other threads reach the loop's thread, in order, and none is lost."""

from __future__ import annotations

import asyncio
import threading

from amble.services.serve.requests.mailbox import Mailbox


def test_calls_of_another_thread_are_made_in_the_loops_thread_and_in_order() -> None:
    seen: list[tuple[int, int]] = []

    async def run() -> None:
        mailbox, done = Mailbox(), asyncio.Event()
        mailbox.open()

        def work() -> None:
            for number in range(10_000):  # more than a socket holds
                mailbox.send(lambda number: seen.append((number, threading.get_ident())), number)
            mailbox.send(done.set)

        thread = threading.Thread(target=work)
        thread.start()
        async with asyncio.timeout(20):
            await done.wait()
        thread.join()
        mailbox.close()

    asyncio.run(run())
    assert seen == [(number, threading.get_ident()) for number in range(10_000)]


def test_what_is_left_is_delivered_at_the_end() -> None:
    seen: list[int] = []

    async def run() -> None:
        mailbox = Mailbox()
        mailbox.open()
        mailbox.send(seen.append, 1)
        mailbox.send(seen.append, 2)
        assert seen == []
        mailbox.close()

    asyncio.run(run())
    assert seen == [1, 2]


def test_only_the_loops_thread_is_here() -> None:
    found: list[bool] = []

    async def run() -> None:
        mailbox = Mailbox()
        assert not mailbox.here
        mailbox.open()
        thread = threading.Thread(target=lambda: found.append(mailbox.here))
        thread.start()
        thread.join()
        found.append(mailbox.here)
        mailbox.close()

    asyncio.run(run())
    assert found == [False, True]


def test_a_call_that_goes_wrong_holds_none_behind_it_back() -> None:
    seen: list[int] = []
    said: list[object] = []

    def wrong() -> None:
        raise ZeroDivisionError

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))
        mailbox, done = Mailbox(), asyncio.Event()
        mailbox.open()
        mailbox.send(wrong)
        mailbox.send(seen.append, 1)
        mailbox.send(done.set)
        async with asyncio.timeout(20):
            await done.wait()
        mailbox.close()

    asyncio.run(run())
    assert seen == [1]
    assert [type(each) for each in said] == [ZeroDivisionError], "and it is not kept secret"
