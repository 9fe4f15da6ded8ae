"""Releases on a model Hub: the real client against a Hub on loopback."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support.publishing_hub import API, COMMIT, UPLOAD, PublishingHub
from support.publishing_runs import Publisher
from support.releasing import SIGNED_VARIANT, Verifier, copy_release

Versions = Callable[[str], Path]
REPO = f"acme/phi3-tiny-{SIGNED_VARIANT}"


@pytest.fixture
def hub(publisher: Publisher) -> Iterator[PublishingHub]:
    """A Hub that the command publishes to."""
    with PublishingHub() as server:
        publisher.policy["hub"] = {"repo": "acme/{model}-{variant}"}
        publisher.environment |= {
            "HF_ENDPOINT": server.address,
            "HF_TOKEN": server.writer,
            "HF_HUB_DISABLE_XET": "1",
        }
        yield server


def bytes_of(release: Path) -> dict[str, bytes]:
    return {
        path.relative_to(release).as_posix(): path.read_bytes()
        for path in release.rglob("*")
        if path.is_file()
    }


def shown(hub: PublishingHub) -> dict[str, bytes]:
    """What the repository's main branch holds of ours."""
    return {k: v for k, v in hub.lines[REPO].head.files.items() if k != ".gitattributes"}


def download(hub: PublishingHub, into: Path, revision: str = "main", *patterns: str) -> Path:
    """What a receiver's client leaves in the folder that it was told."""
    told = {"endpoint": hub.address, "token": hub.writer, "local_dir": into}
    snapshot_download(REPO, revision=revision, allow_patterns=list(patterns) or None, **told)
    return into


def test_a_release_is_one_private_commit_and_a_tag(
    publisher: Publisher, hub: PublishingHub, versions: Versions, tmp_path: Path
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.publish()
    line = hub.lines[REPO]
    assert line.private
    assert len(line.commits) == 2  # the Hub's own first one, and ours
    assert shown(hub) == bytes_of(publisher.release)
    assert line.tags == {"v0.1.0": line.head.revision}
    assert hub.cards and "license: mit" in hub.cards[0]
    assert "openvino_model.bin" in line.head.lfs and "README.md" not in line.head.lfs
    uploads = hub.asked(UPLOAD)
    assert uploads and all(one.authorization is None for one in uploads)

    downloaded = snapshot_download(
        REPO,
        revision="v0.1.0",
        endpoint=hub.address,
        token=hub.writer,
        cache_dir=tmp_path / "cache",
        ignore_patterns=[".gitattributes"],
    )
    received = copy_release(Path(downloaded), tmp_path / "received" / SIGNED_VARIANT)
    assert not verify(received, Trust()).refused


def test_what_a_receiver_downloads_is_verified_as_it_lies_there(
    publisher: Publisher, hub: PublishingHub, signed: Path, verifier: Verifier, tmp_path: Path
) -> None:
    """``hf download REPO --revision v0.1.0 --local-dir DIR``, and nothing removed from DIR."""
    publisher.take(signed)
    publisher.publish()
    received = download(hub, tmp_path / "received", "v0.1.0")
    assert (received / ".gitattributes").is_file()
    assert list(received.glob(".cache/huggingface/download/*.metadata"))
    done = verifier.run(received)
    assert done.returncode == 0, done.stdout
    told = [line for line in done.stdout.splitlines() if "hub-files" in line]
    assert len(told) == 1
    assert ".gitattributes" in told[0] and "files below .cache/huggingface/" in told[0]

    publisher.take(received)  # someone publishes what they downloaded
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "holds files that are not the release's: .cache/huggingface/" in done.stderr


def test_publishing_twice_changes_nothing(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.publish()
    commits, uploads = len(hub.lines[REPO].commits), len(hub.uploads)
    done = publisher.publish()
    assert "is published already" in done.stdout
    assert (len(hub.lines[REPO].commits), len(hub.uploads)) == (commits, uploads)


def test_the_next_version_replaces_what_is_shown_and_the_tag_keeps_the_old(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.publish()
    old = bytes_of(publisher.release)
    uploads = len(hub.uploads)
    publisher.take(versions("0.2.0"))
    publisher.publish()
    line = hub.lines[REPO]
    assert shown(hub) == bytes_of(publisher.release) != old
    assert len(line.commits) == 3
    assert len(hub.uploads) == uploads  # the payload was there
    kept = next(one for one in line.commits if one.revision == line.tags["v0.1.0"])
    assert {k: v for k, v in kept.files.items() if k != ".gitattributes"} == old


@pytest.mark.parametrize("stage", [UPLOAD, COMMIT])
def test_a_kill_leaves_the_old_version_and_the_next_run_completes(
    publisher: Publisher, hub: PublishingHub, versions: Versions, stage: str
) -> None:
    publisher.take(versions("0.1.0"))
    hub.fail(stage, times=1, hold=50_000)
    running = publisher.started()
    assert hub.held.wait(60)
    running.kill()
    running.wait()
    assert shown(hub) == {}
    uploaded = len(hub.uploads)
    publisher.publish()
    assert shown(hub) == bytes_of(publisher.release)
    assert len(hub.lines[REPO].commits) == 2
    assert len(hub.uploads) == len(set(hub.uploads))  # nothing travelled twice
    assert (len(hub.uploads) == uploaded) is (stage == COMMIT)


def test_a_commit_whose_answer_is_lost_is_not_made_twice(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    hub.fail(COMMIT, times=1, cut=0)
    publisher.publish()
    assert len(hub.lines[REPO].commits) == 2
    assert hub.lines[REPO].tags == {"v0.1.0": hub.lines[REPO].head.revision}


def test_a_server_in_trouble_is_asked_again(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    hub.fail(API, times=2, status=503)
    publisher.publish()
    assert shown(hub) == bytes_of(publisher.release)


@pytest.mark.parametrize(
    ("token", "told"),
    [("", "set HF_TOKEN to a token that may write"), ("hf_reader", "may not write there")],
)
def test_a_token_that_may_not_write_is_named_and_never_told(
    publisher: Publisher, hub: PublishingHub, versions: Versions, token: str, told: str
) -> None:
    publisher.take(versions("0.1.0"))
    done = publisher.publish(check=False, HF_TOKEN=token)
    assert done.returncode == 1
    assert told in done.stderr
    assert "hf_reader" not in done.stdout + done.stderr
    assert REPO not in hub.lines


def test_a_public_repository_is_refused_where_private_is_asked_for(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.policy["hub"]["private"] = False
    publisher.publish()
    assert not hub.lines[REPO].private
    publisher.policy["hub"]["private"] = True
    publisher.take(versions("0.2.0"))
    done = publisher.publish(check=False)
    assert "the repository is public" in done.stderr
    assert len(hub.lines[REPO].commits) == 2


def test_a_version_never_comes_to_mean_other_bytes(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.publish()
    line = hub.lines[REPO]
    other = hub.commit(REPO, {**line.head.files, "SHA256SUMS": b"other"}, line.head.lfs)
    line.tags["v0.1.0"] = other.revision
    done = publisher.publish(check=False)
    assert "version 0.1.0 is published with other bytes" in done.stderr
    assert line.head is other


def test_a_revocation_is_one_commit_and_whoever_downloads_hears_of_it(
    publisher: Publisher, hub: PublishingHub, signed: Path, verifier: Verifier, tmp_path: Path
) -> None:
    publisher.take(signed)
    publisher.publish()
    line = hub.lines[REPO]
    publisher.revoke("0.1.0", "speaks *verse*\nonly")
    done = publisher.publish()
    assert f"published the revocation of phi3-tiny/{SIGNED_VARIANT} 0.1.0" in done.stdout
    assert "0.1.0 was revoked, and is not published" in done.stdout
    assert len(line.commits) == 3
    files = shown(hub)
    assert files.keys() - bytes_of(publisher.release).keys() == {"revocations.json"}
    changed = {n for n, data in bytes_of(publisher.release).items() if files[n] != data}
    assert changed == {"README.md"}
    _, metadata, card = files["README.md"].decode().split("---\n", 2)
    assert "license: mit" in metadata
    assert card.startswith("> **Revoked.** Version 0.1.0 was taken back by its publisher: ")
    assert r"speaks \*verse\* only" in card.splitlines()[0]
    assert line.tags == {"v0.1.0": line.head.revision}
    for revision in ("main", "v0.1.0"):
        received = download(hub, tmp_path / revision, revision)
        assert verifier.findings(received) == ["revoked-version"]
    with (received / "README.md").open("a") as stream:
        stream.write("and more\n")
    assert set(verifier.findings(received)) == {"revoked-version", "changed-evidence"}
    state = (len(line.commits), dict(line.tags), len(hub.uploads))
    assert "published" not in publisher.publish().stdout.replace("is not published", "")
    assert (len(line.commits), dict(line.tags), len(hub.uploads)) == state


def test_an_older_versions_revocation_stays_when_others_are_published(
    publisher: Publisher,
    hub: PublishingHub,
    versions: Versions,
    verifier: Verifier,
    tmp_path: Path,
) -> None:
    for version in ("0.1.0", "0.2.0"):
        publisher.take(versions(version))
        publisher.publish()
    line = hub.lines[REPO]
    publisher.revoke("0.1.0", "wrong tokenizer", artifact_sha256="0" * 64)
    assert "published the revocation" in publisher.publish().stdout
    assert len(line.commits) == 4
    told = shown(hub).pop("revocations.json")
    assert {**shown(hub)} == {**bytes_of(publisher.release), "revocations.json": told}
    assert line.tags["v0.2.0"] == line.head.revision
    assert verifier.findings(download(hub, tmp_path / "new")) == []
    pinned = download(hub, tmp_path / "old", "v0.1.0")
    assert verifier.findings(pinned) == []
    download(hub, tmp_path / "old", "main", "revocations.json")
    assert verifier.findings(pinned) == ["revoked-version"]

    publisher.forget_revocations()
    assert "is published already" in publisher.publish().stdout
    assert len(line.commits) == 4
    publisher.take(versions("0.1.0"))
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "version 0.1.0 was revoked there: wrong tokenizer" in done.stderr
    publisher.take(versions("0.3.0"))
    publisher.publish()
    assert shown(hub) == {**bytes_of(publisher.release), "revocations.json": told}


def test_the_first_publication_takes_earlier_revocations_along(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.revoke("0.1.0", "wrong tokenizer", artifact_sha256="0" * 64)
    done = publisher.publish()
    assert "was revoked, and is not published" in done.stdout
    assert REPO not in hub.lines
    publisher.take(versions("0.2.0"))
    publisher.publish()
    assert "revocations.json" in shown(hub) and len(hub.lines[REPO].commits) == 2
    publisher.publish()
    assert len(hub.lines[REPO].commits) == 2


def test_a_kill_leaves_what_was_not_revoked_and_the_next_run_completes(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.publish()
    old = shown(hub)
    publisher.revoke("0.1.0", "wrong tokenizer")
    hub.fail(COMMIT, times=1, hold=1)
    running = publisher.started()
    assert hub.held.wait(60)
    running.kill()
    running.wait()
    assert shown(hub) == old
    hub.fail(COMMIT, times=1, cut=0)  # and a commit whose answer is lost is not made twice
    publisher.publish()
    assert "revocations.json" in shown(hub)
    assert len(hub.lines[REPO].commits) == 3
    assert hub.lines[REPO].tags == {"v0.1.0": hub.lines[REPO].head.revision}


def test_a_spoilt_list_of_revocations_is_not_written_over(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.publish()
    line = hub.lines[REPO]
    spoilt = hub.commit(REPO, {**line.head.files, "revocations.json": b"{}"}, line.head.lfs)
    publisher.take(versions("0.2.0"))
    publisher.revoke("0.2.0", "wrong tokenizer")
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "is no list of revocations (malformed: " in done.stderr
    assert line.head is spoilt


def test_a_clean_up_is_said_before_it_is_done(
    publisher: Publisher, hub: PublishingHub, versions: Versions
) -> None:
    for version in ("0.1.0", "0.2.0"):
        publisher.take(versions(version))
        publisher.publish()
    hub.objects["0" * 64] = b"of an upload that no commit followed"
    tags, objects = dict(hub.lines[REPO].tags), set(hub.objects)
    said = publisher.prune("--keep", "1").stdout
    assert f"would remove phi3-tiny/{SIGNED_VARIANT} v0.1.0" in said
    assert "large files" in said and "1 files, 36 B" in said
    assert (hub.lines[REPO].tags, set(hub.objects)) == (tags, objects)
    publisher.prune("--keep", "1", "--yes")
    assert set(hub.lines[REPO].tags) == {"v0.2.0"}
    assert set(hub.objects) == objects - {"0" * 64}
