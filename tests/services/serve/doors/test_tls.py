"""TLS on both doors over real sockets: who is let in, what is renewed, and which files are refused."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.services.serve.doors.access import Keys
from amble.services.serve.doors.tls import Certificate
from amble.services.serve.front import Doors
from tests.services.serve.certificates import Pair, authority, locked, signed
from tests.services.serve.house import House, house

AMBLE = str(Path(sys.executable).parent / "amble")
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Pair:
    return authority(folder, "ours")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Pair:
    return authority(folder, "theirs")


@pytest.fixture(scope="module")
def server(folder: Path, ours: Pair) -> Pair:
    return signed(folder, "server", ours)


def doors(tls: Certificate, **more: Any) -> Doors:
    return Doors(http_port=0, grpc_port=0, metrics_port=0, drain_s=5.0, tls=tls, **more)


@pytest.fixture(scope="module")
def open_house(server: Pair) -> Iterator[House]:
    with house("plain", doors=doors(Certificate(server.cert, server.key))) as found:
        yield found


def trusting(by: Pair, own: Pair | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(by.cert))
    if own is not None:
        made.load_cert_chain(own.cert, own.key)
    return made


def ask(found: House, context: ssl.SSLContext, body: str | bytes = BODY, **headers: str) -> tuple[int, Any]:
    with closing(http.client.HTTPSConnection("127.0.0.1", found.port, timeout=20, context=context)) as connection:
        connection.request("POST", "/v2/models/plain/infer", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def serial(found: House, by: Pair) -> str:
    with (
        socket.create_connection(("127.0.0.1", found.port), timeout=20) as plain,
        trusting(by).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        told = connection.getpeercert()
        assert told is not None
        return str(told["serialNumber"])


def over_grpc(found: House, by: Pair, own: Pair | None = None, *metadata: tuple[str, str]) -> list[float]:
    grpc = pytest.importorskip("grpc")
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    files = (own.key.read_bytes(), own.cert.read_bytes()) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(by.cert.read_bytes(), *files)
    asked = service_pb2.ModelInferRequest(model_name="plain")
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    asked.raw_input_contents.append(np.array([1, 2], np.float32).tobytes())
    with grpc.secure_channel(found.addresses.grpc, credentials) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(asked, metadata=metadata, timeout=20)
    return np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()


def refused_by_grpc(call: Callable[[], object]) -> bool:
    grpc = pytest.importorskip("grpc")
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return bool(refused.value.code() == grpc.StatusCode.UNAVAILABLE)


def test_both_doors_are_encrypted_and_the_port_of_health_stays_plain(
    open_house: House, ours: Pair, theirs: Pair
) -> None:
    assert open_house.addresses.http.startswith("https://")
    status, answer = ask(open_house, trusting(ours))
    assert (status, answer["outputs"][0]["data"]) == (200, [2.0, 4.0])
    assert over_grpc(open_house, ours) == [2.0, 4.0]
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(open_house, trusting(theirs))
    assert refused_by_grpc(lambda: over_grpc(open_house, theirs))
    assert "nv_inference_count" in open_house.metrics()


def test_a_large_body_comes_through_whole_and_an_answer_too(open_house: House, ours: Pair) -> None:
    values = np.random.default_rng(3).normal(size=(4, 2)).astype(np.float32)
    head = {"name": "x", "datatype": "FP32", "shape": [4, 2], "parameters": {"binary_data_size": values.nbytes}}
    text = json.dumps({"inputs": [head], "id": "n" * 300_000}).encode()
    status, answer = ask(
        open_house,
        trusting(ours),
        text + values.tobytes(),
        **{"Inference-Header-Content-Length": str(len(text))},
    )
    assert status == 200
    assert len(answer["id"]) == 300_000
    assert answer["outputs"][0]["data"] == (2 * values).ravel().tolist()


def test_who_speaks_plainly_or_an_old_protocol_is_not_answered_and_harms_nobody(open_house: House, ours: Pair) -> None:
    with pytest.raises((http.client.HTTPException, OSError)):
        open_house.infer([1.0, 2.0])
    old = trusting(ours)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert ask(open_house, old)[0] == 200
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as silent:
        assert ask(open_house, trusting(ours))[0] == 200
        silent.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert ask(open_house, trusting(ours))[0] == 200


def test_clients_show_a_certificate_of_ours_where_they_must(
    server: Pair, ours: Pair, theirs: Pair, folder: Path
) -> None:
    friend, stranger = signed(folder, "friend", ours), signed(folder, "stranger", theirs)
    with house("plain", doors=doors(Certificate(server.cert, server.key, ours.cert))) as found:
        assert ask(found, trusting(ours, friend))[0] == 200
        assert over_grpc(found, ours, friend) == [2.0, 4.0]
        for own in (None, stranger):
            with pytest.raises((ssl.SSLError, http.client.HTTPException, OSError)):
                ask(found, trusting(ours, own))
            assert refused_by_grpc(partial(over_grpc, found, ours, own))
        assert found.doubler.batches == [1, 1], "strangers had nothing run"
        assert "nv_inference_count" in found.metrics(), "probes show none"


def test_a_key_is_asked_for_over_tls_too(server: Pair, ours: Pair) -> None:
    key = "k" * 32
    with house("plain", doors=doors(Certificate(server.cert, server.key), keys=Keys(given=key))) as found:
        assert ask(found, trusting(ours))[0] == 401
        assert ask(found, trusting(ours), Authorization=f"Bearer {key}")[0] == 200
        assert over_grpc(found, ours, None, ("authorization", f"Bearer {key}")) == [2.0, 4.0]


def test_renewed_files_are_taken_up_and_broken_ones_leave_the_old(
    folder: Path, ours: Pair, theirs: Pair, server: Pair
) -> None:
    used = Pair(folder / "used.pem", folder / "used.key")
    server.copy_to(used)
    trusted = folder / "trusted.pem"
    trusted.write_bytes(ours.cert.read_bytes())
    friend, stranger = signed(folder, "friend2", ours), signed(folder, "stranger2", theirs)
    with house("plain", doors=doors(Certificate(used.cert, used.key, look_s=0.0))) as found:
        before = serial(found, ours)
        used.key.write_bytes(ours.key.read_bytes())  # of another certificate
        assert serial(found, ours) == before
        assert over_grpc(found, ours) == [2.0, 4.0]
        signed(folder, "second", ours).copy_to(used)
        assert serial(found, ours) != before
        signed(folder, "third", theirs).copy_to(used)
        assert serial(found, theirs)
        assert over_grpc(found, theirs) == [2.0, 4.0]
    server.copy_to(used)
    with house("plain", doors=doors(Certificate(used.cert, used.key, trusted, look_s=0.0))) as found:
        assert ask(found, trusting(ours, friend))[0] == 200
        trusted.write_bytes(theirs.cert.read_bytes())
        with pytest.raises((ssl.SSLError, http.client.HTTPException, OSError)):
            ask(found, trusting(ours, friend))
        assert ask(found, trusting(ours, stranger))[0] == 200
        assert over_grpc(found, ours, stranger) == [2.0, 4.0]
        assert refused_by_grpc(lambda: over_grpc(found, ours, friend))


def test_a_connection_outlives_the_renewal_of_its_certificate(folder: Path, ours: Pair, server: Pair) -> None:
    used = Pair(folder / "lasting.pem", folder / "lasting.key")
    server.copy_to(used)
    with (
        house("plain", doors=doors(Certificate(used.cert, used.key, look_s=0.0))) as found,
        closing(http.client.HTTPSConnection("127.0.0.1", found.port, timeout=20, context=trusting(ours))) as connection,
    ):
        for name in ("one", "two"):
            connection.request("POST", "/v2/models/plain/infer", BODY)
            assert connection.getresponse().read()
            signed(folder, name, ours).copy_to(used)
            serial(found, ours)


def test_files_that_do_not_fit_are_refused_by_option_and_name(
    server: Pair, ours: Pair, tmp_path: Path, folder: Path
) -> None:
    empty, none, binary = (tmp_path / f"{name}.pem" for name in ("empty", "none", "binary"))
    empty.write_text("no certificate")
    binary.write_bytes(ssl.PEM_cert_to_DER_cert(server.cert.read_text()))
    cases = [
        ((none, server.key, None), f"--tls-cert {none} cannot be read"),
        ((server.cert, none, None), f"--tls-key {none} cannot be read"),
        ((server.cert, server.key, none), f"--tls-client-ca {none} cannot be read"),
        ((empty, server.key, None), f"--tls-cert {empty} has no certificate"),
        ((binary, server.key, None), f"--tls-cert {binary} has no certificate in PEM"),
        ((server.cert, server.key, binary), f"--tls-client-ca {binary} has no certificate in PEM"),
        ((server.cert, empty, None), f"--tls-key {empty} has no private key"),
        ((server.cert, server.key, empty), f"--tls-client-ca {empty} has no certificate"),
        ((server.cert, ours.key, None), f"--tls-key {ours.key} is not the key of --tls-cert {server.cert}"),
        ((server.cert, locked(folder, server), None), "locked by a password"),
        ((tmp_path, server.key, None), f"--tls-cert {tmp_path} cannot be read"),
    ]
    for files, names in cases:
        with pytest.raises(Refused) as refused:
            Certificate(*files)
        assert names in str(refused.value)


def test_remarks_beside_certificates_may_be_in_any_language(server: Pair, ours: Pair, tmp_path: Path) -> None:
    cert, client_ca = tmp_path / "cert.pem", tmp_path / "clients.pem"
    cert.write_text(f"# Müller\n{server.cert.read_text()}", encoding="utf-8")
    client_ca.write_text(f"# 山田\n{ours.cert.read_text()}", encoding="utf-8")
    assert Certificate(cert, server.key, client_ca).pem.cert == cert.read_bytes()


def test_the_command_line_exits_with_2_and_names_option_and_file(server: Pair, ours: Pair, tmp_path: Path) -> None:
    none = tmp_path / "none.pem"
    cases: list[tuple[list[str | Path], str]] = [
        (["--tls-cert", server.cert], f"--tls-cert {server.cert} needs the key"),
        (["--tls-key", server.key], f"--tls-key {server.key} needs the certificate"),
        (["--tls-client-ca", ours.cert], f"--tls-client-ca {ours.cert} needs the certificate"),
        (["--tls-cert", server.cert, "--tls-key", none], f"--tls-key {none} cannot be read"),
    ]
    for words, names in cases:
        command = [AMBLE, "serve", "fashion-resnet", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2, done.stderr
        assert names in " ".join(done.stderr.split())


def test_renewing_under_load_gives_no_wrong_answer(folder: Path, ours: Pair, server: Pair) -> None:
    used = Pair(folder / "loaded.pem", folder / "loaded.key")
    server.copy_to(used)
    others = [signed(folder, f"other{index}", ours) for index in range(2)]
    with house("plain", doors=doors(Certificate(used.cert, used.key, look_s=0.0))) as found:
        answers: list[list[float]] = []
        over = threading.Event()

        def load() -> None:
            while not over.is_set():
                answers.append(ask(found, trusting(ours))[1]["outputs"][0]["data"])

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        ends_s = time.monotonic() + 1.0
        while time.monotonic() < ends_s:
            for other in others:
                for file in ("key", "cert"):  # each exchanged at once, but not the two together
                    fresh = folder / "fresh"
                    fresh.write_bytes(getattr(other, file).read_bytes())
                    os.replace(fresh, getattr(used, file))
        over.set()
        for thread in threads:
            thread.join(20.0)
    assert len(answers) > 3
    assert all(each == [2.0, 4.0] for each in answers)
