"""`phiforge doctor` before a run: the right words and exit codes where something is lacking."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.checkout import ROOT, Checkout, make_checkout
from support.fetching import TOKEN, make_checkpoint
from support.hub_history import API
from support.hub_server import HubServer
from support.model_files import model_file
from support.small_disk import small_disk

NAME = "acme/phi"
GROUP = f"phiforge-test-{os.getpid()}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return make_checkout(tmp_path_factory.mktemp("doctor") / "phiforge")


@pytest.fixture
def hub(checkout: Checkout) -> Iterator[HubServer]:
    """A Hub with one model of Phi-3-mini's size, which the checkout is configured for."""
    with HubServer() as server:
        commit = server.commit(NAME, make_checkpoint(), frozenset())
        golden = str(ROOT / "models/phi3-tiny/golden.yaml")
        source = {"repo": NAME, "revision": commit.revision}
        model_file(
            checkout.folder, "outside", source=source, golden=golden, parameters=3_821_079_552
        )
        yield server


def doctor(
    checkout: Checkout, *config: str, before: tuple[str, ...] = (), **environment: str
) -> tuple[int, list[str]]:
    """Run it; exit code and what it says, one finding a line."""
    done = checkout.run(
        *before, sys.executable, "-m", "phiforge", "doctor", "--config", *config,
        check=False, **{"HF_TOKEN": "", **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 120
    return done.returncode, done.stdout.replace("\n      ", " ").splitlines()


def failed(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("FAIL")]


OUTSIDE = ("models=outside", "model_files=model.yaml", "variants=openvino-int4-npu")


def test_a_machine_that_can(checkout: Checkout) -> None:
    code, lines = doctor(checkout, "variants=all")
    assert (code, failed(lines)) == (0, [])
    assert lines[-1] == "'snakemake --cores 4 all' can end well here"
    assert any(line.startswith("ok    memory: ") for line in lines)
    assert any(line.startswith("note  signing: no release key") for line in lines)
    assert any("devices: cuda: no NVIDIA GPU here" in line for line in lines)


def test_a_model_to_fetch_says_how_much(checkout: Checkout, hub: HubServer) -> None:
    code, lines = doctor(checkout, *OUTSIDE[:2], "variants=genai-dml-int4", HF_ENDPOINT=hub.address)
    assert any("hub: outside: 0.0 GB to fetch, without a token" in line for line in lines)
    assert code == 0 or all("disk" in line for line in failed(lines))
    assert not (checkout.folder / "artifacts/source").exists()


@contextmanager
def group_of(gigabytes: int) -> Iterator[tuple[str, ...]]:
    """A control group with so much memory, and what runs a command in it."""
    one, two = Path("/sys/fs/cgroup/memory") / GROUP, Path("/sys/fs/cgroup") / GROUP
    folder, limit = (one, "memory.limit_in_bytes") if one.parent.is_dir() else (two, "memory.max")
    try:
        folder.mkdir()
        (folder / limit).write_text(str(gigabytes * 10**9))
    except OSError:
        pytest.skip("needs the right to make a control group with a limit of memory (root)")
    try:
        yield ("sh", "-c", f'echo $$ > {folder}/cgroup.procs; exec "$@"', "sh")
    finally:
        folder.rmdir()


def test_a_machine_with_eight_gigabytes(checkout: Checkout, hub: HubServer) -> None:
    with group_of(8) as group:
        code, lines = doctor(checkout, *OUTSIDE, before=group, HF_ENDPOINT=hub.address)
        (memory,) = (line for line in failed(lines) if "memory" in line)
        assert code == 1 and "8.0 GB are here. Remedy: a larger machine" in memory
        assert "(check outside openvino-int4-npu on npu-standin)" in memory
        code, lines = doctor(checkout, "variants=all", before=group)
        assert (code, failed(lines)) == (0, [])


def test_a_long_run_says_before_what_it_will_take(checkout: Checkout, hub: HubServer) -> None:
    done = checkout.snakemake("-n", "all", "--config", *OUTSIDE[:2], HF_ENDPOINT=hub.address)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("note: to do: "))
    assert (
        " min on " in line and "GB of memory at most" in line and "7.6 GB of them to fetch" in line
    )
    assert "note: to do" not in checkout.snakemake("-n", "all").stderr


def test_no_network(checkout: Checkout, hub: HubServer) -> None:
    code, lines = doctor(checkout, *OUTSIDE, HF_ENDPOINT="http://127.0.0.1:9")
    (line,) = (line for line in failed(lines) if "hub" in line)
    assert code == 1 and "no connection (Connection refused)" in line and "Remedy: look" in line
    assert "cannot end well here: hub" in lines[-1]


def test_a_wrong_token(checkout: Checkout, hub: HubServer) -> None:
    hub.fail(API, status=403, headers={"X-Error-Code": "GatedRepo"})
    code, lines = doctor(checkout, *OUTSIDE, HF_ENDPOINT=hub.address, HF_TOKEN=TOKEN)
    (line,) = (line for line in failed(lines) if "hub" in line)
    assert code == 1 and "gated and refused us with the token in HF_TOKEN" in line
    assert "accept the licence on the model page" in line and TOKEN not in "".join(lines)


def test_no_disk(checkout: Checkout) -> None:
    with small_disk(checkout.folder / "artifacts-on-it", 20) as disk:
        artifacts = checkout.folder / "artifacts"
        kept = artifacts.rename(checkout.folder / "artifacts-before")
        artifacts.symlink_to(disk)
        try:
            code, lines = doctor(checkout, "variants=all")
        finally:
            artifacts.unlink()
            kept.rename(artifacts)
    (line,) = failed(lines)
    assert code == 1 and line.startswith("FAIL  disk: about 0.4 GB needed, 0.0 GB are free")
    assert lines[-1] == "'snakemake --cores 4 all' cannot end well here: disk"


def test_a_key_that_is_not_there(checkout: Checkout) -> None:
    code, lines = doctor(checkout, "variants=all", PHIFORGE_SIGNING_KEY="/nowhere.pem")
    (line,) = failed(lines)
    assert code == 1 and "signing: PHIFORGE_SIGNING_KEY: this variable names no file" in line


def test_an_environment_that_is_not_the_lock_s(checkout: Checkout) -> None:
    with checkout.edited("envs/main.lock", lambda text: text.replace("jinja2==", "jinja2==0", 1)):
        code, lines = doctor(checkout, "variants=all")
    (line,) = failed(lines)
    assert code == 1 and "not as envs/main.lock: jinja2 3" in line and "Remedy: make" in line
