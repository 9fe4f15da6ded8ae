"""Releases on a model Hub: the real client against a Hub on loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hub_history import API, COMMIT, UPLOAD
from support.published_places import REPO, Hub, bytes_of, hub_for
from support.publishing_runs import Publisher
from support.releasing import SIGNED_VARIANT, Certified, Verifier


@pytest.fixture
def hub(publisher: Publisher, tmp_path: Path) -> Iterator[Hub]:
    """A Hub that the command publishes to."""
    with hub_for(publisher, tmp_path) as place:
        yield place


def download(hub: Hub, into: Path, revision: str = "main", *patterns: str) -> Path:
    assert hub.latest(into, revision, *patterns) == into
    return into


def test_a_release_is_one_private_commit_and_a_tag(publisher: Publisher, hub: Hub) -> None:
    publisher.publish("0.1.0")
    line = hub.server.lines[REPO]
    assert line.private
    assert len(line.commits) == 2  # the Hub's own first one, and ours
    assert hub.files() == bytes_of(publisher.release)
    assert line.tags == {"v0.1.0": line.head.revision}
    assert hub.server.cards and "license: mit" in hub.server.cards[0]
    assert "openvino_model.bin" in line.head.lfs and "README.md" not in line.head.lfs
    uploads = hub.server.asked(UPLOAD)
    assert uploads and all(upload.authorization is None for upload in uploads)


def test_what_a_receiver_downloads_is_verified_as_it_lies_there(
    publisher: Publisher, hub: Hub, signed: Path, verifier: Verifier, tmp_path: Path
) -> None:
    """``hf download REPO --revision v0.1.0 --local-dir DIR``, and nothing removed from DIR."""
    publisher.take(signed)
    publisher.publish()
    received = download(hub, tmp_path / "received", "v0.1.0")
    assert (received / ".gitattributes").is_file()
    assert list(received.glob(".cache/huggingface/download/*.metadata"))
    done = verifier.run(received, "--any-signer")
    assert done.returncode == 0, done.stdout
    findings = [line for line in done.stdout.splitlines() if "hub-files" in line]
    assert len(findings) == 1
    assert ".gitattributes" in findings[0] and "files below .cache/huggingface/" in findings[0]

    publisher.take(received)  # someone publishes what they downloaded
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "holds files that are not the release's: .cache/huggingface/" in done.stderr


def test_the_next_version_replaces_what_is_shown_and_the_tag_keeps_the_old(
    publisher: Publisher, hub: Hub, tmp_path: Path
) -> None:
    publisher.publish("0.1.0")
    old = bytes_of(publisher.release)
    uploads = len(hub.server.uploads)
    publisher.publish("0.2.0")
    assert hub.files() == bytes_of(publisher.release) != old
    line = hub.server.lines[REPO]
    assert len(line.commits) == 3
    assert len(hub.server.uploads) == uploads  # the payload was there
    tagged = line.at("v0.1.0")
    assert tagged
    assert {k: v for k, v in tagged.files.items() if k != ".gitattributes"} == old


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        (COMMIT, {"cut": 0}),  # done, and the answer is lost
        (COMMIT, {"status": 412}),  # another commit came in between
        (COMMIT, {"status": 409}),
        (COMMIT, {"status": 503}),
        (API, {"status": 503}),
        (UPLOAD, {"status": 500}),
    ],
)
def test_a_fault_that_passes_leaves_one_commit(
    publisher: Publisher, hub: Hub, target: str, fault: dict[str, Any]
) -> None:
    publisher.take("0.1.0")
    hub.server.fail(target, times=1, **fault)
    publisher.publish()
    line = hub.server.lines[REPO]
    assert hub.files() == bytes_of(publisher.release)
    assert len(line.commits) == 2
    assert line.tags == {"v0.1.0": line.head.revision}


@pytest.mark.parametrize(
    ("token", "message"),
    [("", "set HF_TOKEN to a token that may write"), ("hf_reader", "may not write there")],
)
def test_a_token_that_may_not_write_is_refused_and_not_shown(
    publisher: Publisher, hub: Hub, token: str, message: str
) -> None:
    done = publisher.publish("0.1.0", check=False, HF_TOKEN=token)
    assert done.returncode == 1
    assert message in done.stderr
    assert "hf_reader" not in done.stdout + done.stderr
    assert REPO not in hub.server.lines


def test_a_public_repository_is_refused_where_private_is_asked_for(
    publisher: Publisher, hub: Hub
) -> None:
    publisher.take("0.1.0")
    publisher.policy["hub"]["private"] = False
    publisher.publish()
    assert not hub.server.lines[REPO].private
    publisher.policy["hub"]["private"] = True
    done = publisher.publish("0.2.0", check=False)
    assert "the repository is public" in done.stderr
    assert len(hub.server.lines[REPO].commits) == 2


def test_a_revocation_is_one_commit_that_every_download_shows(
    publisher: Publisher,
    hub: Hub,
    signed: Path,
    certified: Certified,
    verifier: Verifier,
    tmp_path: Path,
) -> None:
    publisher.environment["PHIFORGE_SIGNING_KEY"] = str(certified.key)
    publisher.take(signed)
    publisher.publish()
    line = hub.server.lines[REPO]
    old = hub.files()
    publisher.revoke("0.1.0", "speaks *verse*\nonly")
    hub.server.fail(COMMIT, times=1, hold=1)
    running = publisher.started()
    assert hub.server.held.wait(60)
    running.kill()
    running.wait()
    assert hub.files() == old
    hub.server.fail(COMMIT, times=1, cut=0)  # and a commit whose answer is lost is not made twice
    done = publisher.publish()
    assert f"published the revocation of phi3-tiny/{SIGNED_VARIANT} 0.1.0" in done.stdout
    assert "0.1.0 was revoked, and is not published" in done.stdout
    assert len(line.commits) == 3
    files = hub.files()
    assert files.keys() - old.keys() == {"revocations.json"}
    assert {name for name, data in old.items() if files[name] != data} == {"README.md"}
    _, metadata, card = files["README.md"].decode().split("---\n", 2)
    assert "license: mit" in metadata
    assert card.startswith("> **Revoked.** Version 0.1.0 was ")
    assert r"speaks \*verse\* only" in card.splitlines()[0]
    assert line.tags == {"v0.1.0": line.head.revision}
    for revision in ("main", "v0.1.0"):
        received = download(hub, tmp_path / revision, revision)
        assert verifier.findings(received) == ["revoked-version"]
    with (received / "README.md").open("a") as stream:
        stream.write("and more\n")
    assert set(verifier.findings(received)) == {"revoked-version", "changed-evidence"}
    state = hub.state()
    publisher.publish()
    assert hub.state() == state


def test_a_revocation_of_an_older_version_leaves_the_newer_as_it_is(
    publisher: Publisher, hub: Hub, verifier: Verifier, tmp_path: Path
) -> None:
    publisher.publish("0.1.0", "0.2.0")
    line = hub.server.lines[REPO]
    publisher.revoke("0.1.0", "wrong tokenizer", artifact_sha256="0" * 64)
    publisher.publish()
    assert len(line.commits) == 4
    listed = hub.files()["revocations.json"]
    assert hub.files() == {**bytes_of(publisher.release), "revocations.json": listed}
    assert line.tags["v0.2.0"] == line.head.revision
    assert verifier.findings(download(hub, tmp_path / "new")) == []
    pinned = download(hub, tmp_path / "old", "v0.1.0")
    assert verifier.findings(pinned) == []
    download(hub, tmp_path / "old", "main", "revocations.json")
    assert verifier.findings(pinned) == ["revoked-version"]
