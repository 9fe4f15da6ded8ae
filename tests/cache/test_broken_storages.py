"""A storage that is silent, broken or full costs time, and the job goes on."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agents import MakeAgent, Shelf, key_of, only
from support.small_disk import small_disk


@pytest.fixture
def silent() -> Iterator[tuple[int, list[socket.socket]]]:
    """A port where connections are taken and nothing is ever said; those connections."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hold() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
            except OSError:
                pass

        threading.Thread(target=hold, daemon=True).start()
        yield server.getsockname()[1], held
        for one in held:
            one.close()


def test_a_silent_storage_costs_its_time_limit_once(
    make: MakeAgent,
    silent: tuple[int, list[socket.socket]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    port, connections = silent
    first = make("first")
    options = {"endpoint_url": f"http://127.0.0.1:{port}", "region": "us-east-1"}
    storage = {"url": "s3://bucket/shared", "options": options}
    second = make("second", first, storage=storage, time_limit_s=2)
    command = second.command(second.conversion())
    started = time.monotonic()
    assert not command.take()
    assert time.monotonic() - started < 60
    assert "cache: out of order: no answer in 2 s" in capfd.readouterr().out
    asked = len(connections)
    assert not second.command(second.conversion()).take()  # the next job does not wait
    assert len(connections) == asked
    assert "not asked, it was out of order" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("storage", "why"),
    [
        ({"url": "s4://bucket"}, "Protocol not known: s4"),
        ({"url": "sftp://me:s3cret@host/x"}, "cache.storage: the password in a URL is a secret"),
        ({"url": "s3://bucket", "options": {"endpoint_url": "http://127.0.0.1:9", "region": "eu",
                                            "retries": 1}}, "Could not connect"),
    ],
)  # fmt: skip
def test_a_broken_storage_is_named_and_the_job_goes_on(
    make: MakeAgent, storage: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    second = make("second", make("first"), storage=storage)
    answered = second.asked(second.conversion(), "take", scratch=None)
    assert answered["broken"]
    only(answered["notes"], "out of order: ", why)


def test_a_full_storage_leaves_nothing_half(make: MakeAgent, tmp_path: Path) -> None:
    with small_disk(tmp_path / "full", 1) as disk:
        first = make("first", storage={"url": str(disk / "shared")})
        argv = first.build(b"w" * 2_000_000)
        answered = first.asked(argv, "put", key=key_of(argv), write=True, again=False)
        assert answered["broken"]
        only(answered["notes"], "out of order: ", "No space left on device")
        shared = Shelf(disk / "shared")
        assert not [name for name in shared.names() if not name.startswith("files/")]
        assert not [name for name in shared.names() if "partial" in name]
