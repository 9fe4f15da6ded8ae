"""fetch from a Hub that fails on the way: the right tree in the end, or one line of error."""

import hashlib
import os
import pty
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.fetching import ROOT, SHARDS, TOKEN, Fetch, Published, make_checkpoint
from support.hub_server import API, HubServer

BIG = SHARDS[0]


def wait_for_bytes(fetch: Fetch, size: int) -> None:
    """Until an unfinished download of at least ``size`` bytes is on disk."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in (fetch.into / ".download").glob("*"):
            if path.stat().st_size >= size:
                return
        time.sleep(0.01)
    raise AssertionError("nothing arrived")


def kill_mid_download(fetch: Fetch, hub: HubServer, source: dict[str, object]) -> None:
    """Run until 200 kB of the first shard are here, then SIGKILL."""
    hub.fail(BIG, hold=200_000)
    process = fetch.start(source)
    wait_for_bytes(fetch, 200_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (fetch.into / "files").exists()
    assert not (fetch.into / "SOURCE.json").exists()
    hub.heal()


def test_only_what_is_needed_arrives_and_nothing_is_asked_twice(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.succeeds(published.source, published.needed)
    asked = [request.target for request in hub.requests if request.path != "redirected"]
    assert sorted(asked) == sorted([API, *published.needed])


def test_the_token_goes_to_the_hub_and_nowhere_else(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.succeeds(published.source, published.needed)
    tokens = {(request.host, request.authorization) for request in hub.requests}
    assert tokens == {("hub", f"Bearer {TOKEN}"), ("storage", None)}


def test_a_token_in_the_home_folder_is_not_taken(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    del fetch.environment["HF_TOKEN"]
    stored = Path(fetch.environment["HOME"]) / ".cache/huggingface/token"
    stored.parent.mkdir(parents=True)
    stored.write_text(TOKEN)
    fetch.succeeds(published.source, published.needed)
    assert {request.authorization for request in hub.requests} == {None}


def test_the_record_names_no_time_host_or_path_and_keeps_git_blobs(
    fetch: Fetch, hub: HubServer, published: Published, tmp_path: Path
) -> None:
    fetch.succeeds(published.source, published.needed)
    record = (fetch.into / "SOURCE.json").read_bytes()
    entries = {str(entry["path"]): entry for entry in fetch.record()["files"]}
    git = subprocess.run(
        ["git", "hash-object", fetch.into / "files/config.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert entries["config.json"]["git_blob"] == git.stdout.strip()
    assert "git_blob" not in entries[BIG]
    again = Fetch(tmp_path / "elsewhere", fetch.environment)
    again.succeeds(published.source, published.needed)
    assert (again.into / "SOURCE.json").read_bytes() == record


def test_when_everything_is_here_there_is_no_request_at_all(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.succeeds(published.source, published.needed)
    hub.heal()
    (fetch.into / "SOURCE.json").unlink()  # as Snakemake does before it runs the job again
    fetch.environment["HF_HUB_OFFLINE"] = "1"
    fetch.succeeds(published.source, published.needed)
    assert hub.requests == []


def test_a_damaged_tree_is_repaired_and_only_the_damaged_file_fetched(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.succeeds(published.source, published.needed)
    hub.heal()
    damaged = fetch.into / "files" / BIG
    damaged.chmod(0o644)
    data = bytearray(damaged.read_bytes())
    data[1000] ^= 1
    damaged.write_bytes(data)
    output = fetch.succeeds(published.source, published.needed)
    assert "repairing" in output
    assert [request.target for request in hub.asked(BIG)] == [BIG]
    assert not hub.asked(SHARDS[1])


def test_a_tree_with_a_file_too_many_is_repaired(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.succeeds(published.source, published.needed)
    hub.heal()
    (fetch.into / "files/modeling_phi3.py").write_text("import os")
    fetch.succeeds(published.source, published.needed)
    assert [request.target for request in hub.requests] == [API]


def test_another_commit_replaces_the_tree_and_reuses_equal_files(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.succeeds(published.source, published.needed)
    hub.heal()
    later = Published(hub.add({**make_checkpoint(), "config.json": b'{"a": 1}'}, lfs=SHARDS))
    fetch.succeeds(later.source, later.needed)
    assert not hub.asked(BIG)
    assert len(hub.asked("config.json")) == 1


def test_a_single_weights_file_is_preferred_as_transformers_does(
    fetch: Fetch, hub: HubServer
) -> None:
    files = make_checkpoint()
    files["model.safetensors"] = files[BIG]
    files["model-00001-of-00002.safetensors"] = b"not asked for"
    published = Published(hub.add(files, lfs=("model.safetensors",)))
    unused = (*SHARDS, "model.safetensors.index.json")
    wanted = {name: data for name, data in published.needed.items() if name not in unused}
    fetch.succeeds(published.source, {**wanted, "model.safetensors": files["model.safetensors"]})


def test_equal_files_are_fetched_once_and_empty_ones_are_files_too(
    fetch: Fetch, hub: HubServer
) -> None:
    files = make_checkpoint()
    published = Published(
        hub.add({**files, "NOTICE.md": files["LICENSE"], "added_tokens.json": b""}, lfs=SHARDS)
    )
    fetch.succeeds(published.source, {**published.needed, "added_tokens.json": b""})


@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.parametrize("target", [BIG, API])
def test_a_connection_lost_on_the_way_is_taken_up_again(
    fetch: Fetch, hub: HubServer, published: Published, kind: str, target: str
) -> None:
    at = 100_000 if target == BIG else 40
    hub.fail(target, times=2, **{kind: at})
    fetch.succeeds(published.source, published.needed)
    if target == BIG:
        ranges = [request.range for request in hub.asked(BIG)]
        assert ranges == [None, "bytes=100000-", "bytes=200000-"]
        assert hub.sent[BIG] == len(published.needed[BIG])


def test_a_connection_lost_every_time_is_an_error_and_a_rerun_continues(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    hub.fail(BIG, cut=10_000)
    fetch.fails(published.source, BIG, "gave up after 6 attempts", "run again")
    hub.heal()
    fetch.succeeds(published.source, published.needed)
    assert [request.range for request in hub.asked(BIG)] == ["bytes=60000-"]
    assert not hub.asked("config.json")


def test_a_server_that_falls_silent_is_left(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
    hub.fail(BIG, times=1, hold=150_000)
    output = fetch.succeeds(published.source, published.needed)
    assert "no answer in time" in output
    assert hub.asked(BIG)[-1].range == "bytes=150000-"


def test_a_killed_run_is_continued_by_the_next_process(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    kill_mid_download(fetch, hub, published.source)
    fetch.succeeds(published.source, published.needed)
    assert [request.range for request in hub.asked(BIG)] == ["bytes=200000-"]
    assert hub.sent[BIG] == len(published.needed[BIG]) - 200_000
    assert not hub.asked("config.json")


def test_a_server_without_ranges_starts_the_file_again(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    kill_mid_download(fetch, hub, published.source)
    hub.fail(BIG, ignore_range=True)
    fetch.succeeds(published.source, published.needed)
    assert hub.sent[BIG] == len(published.needed[BIG])


def test_what_a_killed_run_left_of_another_commit_goes(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    kill_mid_download(fetch, hub, published.source)
    left = {path.name for path in (fetch.into / ".download").iterdir()}
    assert hashlib.sha256(published.needed[BIG]).hexdigest() in left
    files = make_checkpoint()
    other = Published(
        hub.add({**files, BIG: files[SHARDS[1]], SHARDS[1]: files[BIG][::-1]}, lfs=SHARDS)
    )
    hub.fail(SHARDS[1], cut=1000)
    # The index no longer fits, but that is seen only once the shards are here.
    fetch.fails(other.source, SHARDS[1])
    left = {path.name for path in (fetch.into / ".download").iterdir()}
    assert hashlib.sha256(published.needed[BIG]).hexdigest() not in left


def test_bytes_left_damaged_by_an_earlier_run_are_noticed(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    kill_mid_download(fetch, hub, published.source)
    left = fetch.into / ".download" / hashlib.sha256(published.needed[BIG]).hexdigest()
    left.write_bytes(b"\0" * 200_000)
    output = fetch.succeeds(published.source, published.needed)
    assert "the bytes are damaged" in output


@pytest.mark.parametrize("target", [BIG, "tokenizer.json"])
def test_one_wrong_bit_is_noticed_and_the_file_fetched_once_more(
    fetch: Fetch, hub: HubServer, published: Published, target: str
) -> None:
    hub.fail(target, times=1, corrupt=5)
    output = fetch.succeeds(published.source, published.needed)
    assert "the bytes are damaged" in output
    assert [request.range for request in hub.asked(target)] == [None, None]


@pytest.mark.parametrize(
    ("target", "kind"), [(BIG, "sha256"), ("config.json", "git blob id")], ids=["lfs", "git"]
)
def test_wrong_bytes_twice_are_an_error_and_are_not_kept(
    fetch: Fetch, hub: HubServer, published: Published, target: str, kind: str
) -> None:
    hub.fail(target, corrupt=5)
    fetch.fails(published.source, target, "other bytes", kind, "expected")
    assert len(hub.asked(target)) == 2
    hub.heal()
    fetch.succeeds(published.source, published.needed)
    assert [request.range for request in hub.asked(target)] == [None]


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_truncated_file_is_an_error(
    fetch: Fetch, hub: HubServer, published: Published, size: int
) -> None:
    hub.fail(BIG, truncate=size)
    fetch.fails(published.source, BIG, "gave up")


def test_a_file_longer_than_the_commit_has_is_an_error(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    hub.fail(BIG, append=b"more")
    fetch.fails(published.source, BIG, "more than")


@pytest.mark.parametrize(
    ("target", "status"),
    [(API, 429), (API, 503), (BIG, 429), (BIG, 503), ("config.json", 500), ("config.json", 408)],
)
def test_a_burst_of_refusals_is_sat_out(
    fetch: Fetch, hub: HubServer, published: Published, target: str, status: int
) -> None:
    hub.fail(target, times=3, status=status)
    output = fetch.succeeds(published.source, published.needed)
    assert output.count(f"HTTP {status}") == 3
    assert len(hub.asked(target)) == 4


@pytest.mark.parametrize("target", [API, BIG])
def test_refusals_without_end_are_an_error(
    fetch: Fetch, hub: HubServer, published: Published, target: str
) -> None:
    hub.fail(target, status=503)
    fetch.fails(published.source, "HTTP 503", "gave up after 6 attempts")
    assert len(hub.asked(target)) == 6


@pytest.mark.parametrize(
    ("target", "header"),
    [(API, ("Retry-After", "1")), (BIG, ("RateLimit", '"api";r=0;t=1'))],
    ids=["Retry-After", "RateLimit"],
)
def test_the_wait_that_the_server_asks_for_is_kept(
    fetch: Fetch, hub: HubServer, published: Published, target: str, header: tuple[str, str]
) -> None:
    hub.fail(target, times=1, status=429, headers=dict([header]))
    fetch.succeeds(published.source, published.needed)
    first, second = hub.asked(target)
    assert second.at - first.at >= 1


def test_a_server_that_asks_for_too_long_a_wait_is_an_error(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    hub.fail(API, status=429, headers={"Retry-After": "7200"})
    fetch.fails(published.source, "7200 s")
    assert len(hub.asked(API)) == 1


def test_a_second_process_is_refused_while_the_first_runs(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    hub.fail(BIG, times=1, hold=200_000)
    first = fetch.start(published.source)
    wait_for_bytes(fetch, 200_000)
    code, output = fetch.run(published.source)
    assert code == 1
    assert f"process {first.pid}) is writing here" in output
    assert "Traceback" not in output
    hub.stopping.set()
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 0, output
    fetch.holds(published.source, published.needed)


def test_a_proxy_of_the_environment_is_used(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    # The server answers for any host name: it is its own proxy for a Hub that does not exist.
    files = {**published.needed, "model.safetensors": published.needed[BIG]}
    single = Published(hub.add(files))
    fetch.environment |= {"HTTP_PROXY": hub.address, "HF_ENDPOINT": "http://hub.invalid"}
    unused = (*SHARDS, "model.safetensors.index.json")
    fetch.succeeds(single.source, {name: files[name] for name in files if name not in unused})
    assert hub.requests[0].path.startswith("http://hub.invalid/api/")


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
        published = Published(hub.add(make_checkpoint(), lfs=SHARDS))
        fetch.environment["HF_ENDPOINT"] = hub.address
        if variable:
            fetch.environment[variable] = str(certificate)
            fetch.succeeds(published.source, published.needed)
        else:
            fetch.fails(published.source, "certificate is not trusted", "SSL_CERT_FILE")


def test_a_terminal_gets_a_bar(fetch: Fetch, hub: HubServer, published: Published) -> None:
    ours, theirs = pty.openpty()
    environment = {**fetch.environment, "TERM": "xterm"}
    with subprocess.Popen(
        fetch.command(published.source), cwd=ROOT, env=environment, stderr=theirs
    ) as process:
        process.wait(timeout=60)
    shown = os.read(ours, 1 << 16).decode()
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 0, shown
    assert "\x1b[" in shown
    assert "fetch phi" in shown
