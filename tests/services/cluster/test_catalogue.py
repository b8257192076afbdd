"""All devices serve the same, or nothing is served; and changes go round device by device, without a lost request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.runtimes.remote.fault import Fault
from amble.services.cluster.catalogue import agreed
from tests.services.cluster.local import close, rack


def test_devices_that_disagree_are_refused() -> None:
    async def run() -> None:
        made = await rack(["a", "b"])
        mine = await made.links["a"].describe()
        try:
            assert agreed({"a": mine, "b": mine}) == mine
            other = tuple(replace(each, digest="0123456789abcdef") for each in mine)
            with pytest.raises(Refused, match=r"disagree about model 'm', version 1.*for a and 0123456789ab… for b"):
                agreed({"a": mine, "b": other})
            with pytest.raises(Refused, match="a serves 'm' in version 1 and b does not"):
                agreed({"a": mine, "b": ()})
            with pytest.raises(Refused, match="b serves 'm' in version 1 and a does not"):
                agreed({"a": (), "b": mine})
        finally:
            await close(made)

    asyncio.run(run())


def _version(folder: Path, number: int) -> None:
    (folder / "m" / str(number)).mkdir(parents=True)
    (folder / "m" / str(number) / "model.onnx").write_bytes(b"")


def test_a_new_version_goes_round_while_every_request_is_answered(tmp_path: Path) -> None:
    _version(tmp_path, 1)

    async def run() -> None:
        made = await rack(["a", "b", "c"], models=(), folder=tmp_path)
        versions: list[str] = []
        over = asyncio.Event()

        async def ask() -> None:
            while not over.is_set():
                versions.append((await made.infer()).answer.version)

        try:
            async with made.cluster.steering.running():
                asking = [asyncio.create_task(ask()) for _ in range(4)]
                await asyncio.sleep(0.1)
                _version(tmp_path, 2)
                await made.repository.start("m")
                await asyncio.sleep(0.1)
                over.set()
                await asyncio.gather(*asking)
                assert set(versions) == {"1", "2"}
                assert versions[-1] == "2"
                assert made.repository.model("m").version == "2"
                assert all(set(upstream.served) == {("m", "2")} and upstream.up for upstream in made.cluster.upstreams)
                with pytest.raises(Fault, match="no version '1'"):
                    made.repository.model("m", "1")
        finally:
            await close(made)

    asyncio.run(asyncio.wait_for(run(), 120))


def test_unloaded_is_unloaded_everywhere_and_can_be_loaded_again() -> None:
    async def run() -> None:
        made = await rack(["a", "b"])
        try:
            async with made.cluster.steering.running():
                await made.repository.stop("m")
                assert made.repository.index() == [
                    {"name": "m", "version": "", "state": "UNAVAILABLE", "reason": "unloaded"}
                ]
                with pytest.raises(Fault, match="not served"):
                    await made.infer()
                await made.repository.start("m")
                assert [each["state"] for each in made.repository.index()] == ["READY"]
                assert (await made.infer()).answer.model == "m"
                with pytest.raises(Fault, match="a: model 'x' is not in the repository"):
                    await made.repository.start("x")
                assert all(upstream.open for upstream in made.cluster.upstreams)
        finally:
            await close(made)

    asyncio.run(asyncio.wait_for(run(), 120))
