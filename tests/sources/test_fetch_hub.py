"""fetch from a Hub: what is asked for, what is kept, and what a rerun starts from."""

import hashlib
import os
import pty
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from socket import gethostname

import pytest

from support.fetching import INDEX, ROOT, SHARDS, TOKEN, Fetch, HubModel, make_checkpoint
from support.hub_history import API
from support.hub_server import HubServer

BIG = SHARDS[0]


def wait_for_bytes(fetch: Fetch, size: int) -> None:
    """Wait until an unfinished download of at least ``size`` bytes is on disk."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(path.stat().st_size >= size for path in (fetch.into / ".download").glob("*")):
            return
        time.sleep(0.01)
    raise AssertionError("nothing arrived")


@pytest.fixture
def killed(model: HubModel) -> Path:
    """Kill a fetch when 200 kB of the first shard are on disk; the unfinished file."""
    model.hub.fail(BIG, hold=200_000)
    process = model.fetch.start(model.source)
    wait_for_bytes(model.fetch, 200_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (model.fetch.into / "files").exists()
    assert not (model.fetch.into / "SOURCE.json").exists()
    model.hub.heal()
    return model.fetch.into / ".download" / hashlib.sha256(model.needed[BIG]).hexdigest()


def test_only_what_is_needed_arrives_once_and_the_token_goes_to_the_hub_only(
    model: HubModel,
) -> None:
    model.succeeds()
    requests = model.hub.requests
    assert sorted(request.target for request in requests) == sorted([API, *model.needed])
    assert sorted(request.target for request in model.hub.redirects) == sorted(SHARDS)
    tokens = {(one.host, one.authorization) for one in [*requests, *model.hub.redirects]}
    assert tokens == {("hub", f"Bearer {TOKEN}"), ("storage", None)}


def test_a_token_in_the_home_folder_is_not_taken(model: HubModel) -> None:
    del model.fetch.environment["HF_TOKEN"]
    stored = Path(model.fetch.environment["HOME"]) / ".cache/huggingface/token"
    stored.parent.mkdir(parents=True)
    stored.write_text(TOKEN)
    model.succeeds()
    assert {request.authorization for request in model.hub.requests} == {None}


def test_the_record_names_no_time_host_or_path_and_keeps_git_blobs(
    model: HubModel, tmp_path: Path
) -> None:
    model.succeeds()
    record = (model.fetch.into / "SOURCE.json").read_bytes()
    entries = {str(entry["path"]): entry for entry in model.fetch.record()["files"]}
    command = ["git", "hash-object", model.fetch.into / "files/config.json"]
    git = subprocess.run(command, capture_output=True, text=True, check=True)
    assert entries["config.json"]["git_blob"] == git.stdout.strip()
    assert "git_blob" not in entries[BIG]
    again = Fetch(tmp_path / "elsewhere", model.fetch.environment)
    again.succeeds(model.source, model.needed)
    assert (again.into / "SOURCE.json").read_bytes() == record


def _flip_a_bit(files: Path) -> None:
    data = bytearray((files / BIG).read_bytes())
    data[1000] ^= 1
    (files / BIG).chmod(0o644)
    (files / BIG).write_bytes(data)


def _replace_by_a_link(files: Path) -> None:
    shutil.move(files / BIG, files.parent / "elsewhere")
    (files / BIG).symlink_to("../elsewhere")


@pytest.mark.parametrize(
    ("damage", "asked"),
    [
        (lambda files: (files / "modeling_phi3.py").write_text("import os"), []),
        (_flip_a_bit, [API, BIG]),
        (_replace_by_a_link, [API, BIG]),
        (lambda files: (files / "LICENSE").unlink(), [API, "LICENSE"]),
    ],
    ids=["a file too many", "a flipped bit", "a link", "a lost file"],
)
def test_a_damaged_tree_is_repaired_and_only_the_damaged_file_fetched(
    model: HubModel,
    damage: Callable[[Path], object],
    asked: list[str],
) -> None:
    model.succeeds()
    model.hub.heal()
    damage(model.fetch.into / "files")
    model.succeeds()
    assert [request.target for request in model.hub.requests] == asked


def test_without_a_network_a_complete_tree_is_enough(model: HubModel) -> None:
    model.succeeds()
    model.hub.heal()
    (model.fetch.into / "SOURCE.json").unlink()  # as Snakemake does before it runs the job again
    model.fetch.environment["HF_HUB_OFFLINE"] = "1"
    model.succeeds()
    assert model.hub.requests == []


def test_another_commit_replaces_the_tree_and_reuses_equal_files(model: HubModel) -> None:
    model.succeeds()
    model.hub.heal()
    files = {**make_checkpoint(), "config.json": b'{"a": 1}'}
    HubModel.publish(model.hub, model.fetch, files).succeeds()
    assert not model.hub.asked(BIG)
    assert len(model.hub.asked("config.json")) == 1


def test_a_single_weights_file_is_preferred_as_transformers_does(
    fetch: Fetch, hub: HubServer
) -> None:
    files = make_checkpoint()
    files["model.safetensors"] = files[BIG]
    files["model-00001-of-00002.safetensors"] = b"not asked for"
    model = HubModel.publish(hub, fetch, files, lfs=("model.safetensors",))
    wanted = {name: files[name] for name in model.needed if name not in (*SHARDS, INDEX)}
    fetch.succeeds(model.source, {**wanted, "model.safetensors": files["model.safetensors"]})


def test_equal_files_are_fetched_once_and_empty_ones_are_files_too(
    fetch: Fetch, hub: HubServer
) -> None:
    files = make_checkpoint()
    files |= {"NOTICE.md": files["LICENSE"], "added_tokens.json": b""}
    model = HubModel.publish(hub, fetch, files)
    fetch.succeeds(model.source, {**model.needed, "added_tokens.json": b""})
    assert len(hub.asked("LICENSE") + hub.asked("NOTICE.md")) == 1


def test_a_model_that_only_its_own_code_runs_is_refused_before_its_weights(
    fetch: Fetch, hub: HubServer
) -> None:
    files = {**make_checkpoint(), "config.json": b'{"model_type": "phi3small"}'}
    del files["tokenizer.json"]  # Phi-3-small's tokenizer is code too
    HubModel.publish(hub, fetch, files).fails("this is Phi-3-small", "never done")
    assert [request.target for request in hub.requests] == [API, "config.json"]


def test_a_rerun_after_a_lost_connection_continues(model: HubModel) -> None:
    model.hub.fail(BIG, cut=10_000)
    model.fails(BIG, "gave up after 6 attempts", "run again")
    model.hub.heal()
    model.succeeds()
    assert model.ranges(BIG) == ["bytes=60000-"]
    assert not model.hub.asked("config.json")


def test_a_killed_run_is_continued_by_the_next_process(model: HubModel, killed: Path) -> None:
    model.succeeds()
    assert model.ranges(BIG) == ["bytes=200000-"]
    assert not model.hub.asked("config.json")


def test_a_server_without_ranges_starts_the_file_again(model: HubModel, killed: Path) -> None:
    model.hub.fail(BIG, ignore_range=True)
    model.succeeds()
    assert model.ranges(BIG) == ["bytes=200000-"]


def test_bytes_left_damaged_by_an_earlier_run_are_noticed(model: HubModel, killed: Path) -> None:
    killed.write_bytes(b"\0" * 200_000)
    assert "the bytes are damaged" in model.succeeds()


def test_what_a_killed_run_left_of_another_commit_is_removed(
    fetch: Fetch, hub: HubServer, killed: Path
) -> None:
    assert killed.exists()
    files = make_checkpoint()
    other = {**files, BIG: files[SHARDS[1]], SHARDS[1]: files[BIG][::-1]}
    hub.fail(SHARDS[1], cut=1000)
    # The index no longer matches, but that is checked after the shards have arrived.
    HubModel.publish(hub, fetch, other).fails(SHARDS[1])
    assert not killed.exists()


def test_a_second_process_is_refused_while_the_first_runs(model: HubModel) -> None:
    model.hub.fail(BIG, times=1, hold=200_000)
    first = model.fetch.start(model.source)
    wait_for_bytes(model.fetch, 200_000)
    code, output = model.fetch.run(model.source)
    assert code == 1
    assert f"process {first.pid} on {gethostname()}) is writing here" in output
    assert "Traceback" not in output
    model.hub.stopping.set()
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 0, output
    model.fetch.holds(model.source, model.needed)


def test_a_proxy_of_the_environment_is_used(model: HubModel) -> None:
    # The server answers for any host name: it is its own proxy for a Hub that does not exist.
    files = {**model.needed, "model.safetensors": model.needed[BIG]}
    single = HubModel.publish(model.hub, model.fetch, files, lfs=())
    model.fetch.environment |= {
        "HTTP_PROXY": model.hub.address,
        "HF_ENDPOINT": "http://hub.invalid",
    }
    wanted = {name: files[name] for name in files if name not in (*SHARDS, INDEX)}
    model.fetch.succeeds(single.source, wanted)
    assert model.hub.requests[0].path.startswith("http://hub.invalid/api/")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", None])
def test_a_ca_bundle_of_the_environment_is_used(
    fetch: Fetch, tmp_path: Path, variable: str | None
) -> None:
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("needs the openssl program to make a certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=hub",
            "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    with HubServer((certificate, key)) as hub:
        model = HubModel.publish(hub, fetch, make_checkpoint())
        fetch.environment["HF_ENDPOINT"] = hub.address
        if variable:
            fetch.environment[variable] = str(certificate)
            model.succeeds()
        else:
            model.fails("certificate is not trusted", "SSL_CERT_FILE")


def test_a_terminal_gets_a_bar(model: HubModel) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    with subprocess.Popen(
        model.fetch.command(model.source), cwd=ROOT, env=model.fetch.environment, stderr=theirs
    ) as process:
        process.wait(timeout=60)
    shown = os.read(ours, 1 << 16).decode()
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 0, shown
    assert f"\rfetch phi: {BIG}: 100%" in shown
