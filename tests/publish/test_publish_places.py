"""What holds wherever a release is published: a folder, an S3 bucket, a Hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hub_history import COMMIT, UPLOAD
from support.published_places import PLACES, REPO, Hub, bytes_of, received
from support.publishing_runs import Publisher
from support.releasing import Verifier


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, publisher: Publisher, tmp_path: Path) -> Iterator[Any]:
    """Each place that the command publishes to."""
    with PLACES[request.param](publisher, tmp_path / "published") as opened:
        yield opened


def test_a_version_is_published_once_and_then_the_next(
    publisher: Publisher, place: Any, tmp_path: Path
) -> None:
    done = publisher.publish("0.1.0")
    assert "published phi3-tiny/" in done.stdout
    assert "secret" not in done.stdout + done.stderr
    assert received(place, tmp_path / "first") == "0.1.0"
    state = place.state()
    assert "is published already" in publisher.publish().stdout
    assert place.state() == state
    publisher.publish("0.2.0")
    assert received(place, tmp_path / "second") == "0.2.0"
    assert bytes_of(place.latest(tmp_path / "again")) == bytes_of(publisher.release)


@pytest.mark.parametrize("stage", ["upload", "end"])
def test_a_kill_leaves_the_old_version_and_the_next_run_completes(
    publisher: Publisher, place: Any, tmp_path: Path, stage: str
) -> None:
    old = None
    if not (isinstance(place, Hub) and stage == "upload"):  # versions have the same large files
        old = "0.1.0"
        publisher.publish(old)
    publisher.take("0.2.0")
    if isinstance(place, Hub):
        place.server.fail(UPLOAD if stage == "upload" else COMMIT, times=1, hold=50_000)
        running = publisher.started()
        assert place.server.held.wait(60)
        running.kill()
        running.wait()
    else:
        files = len(bytes_of(publisher.release))
        assert publisher.killed_publish(8 if stage == "upload" else files + 1)
    assert received(place, tmp_path / "killed") == old
    publisher.publish()
    assert received(place, tmp_path / "completed") == "0.2.0"
    assert bytes_of(place.latest(tmp_path / "again")) == bytes_of(publisher.release)
    if isinstance(place, Hub):
        assert len(place.server.uploads) == len(set(place.server.uploads))  # nothing twice


def test_a_version_never_comes_to_mean_other_bytes(publisher: Publisher, place: Any) -> None:
    publisher.publish("0.1.0")
    place.forge()
    state = place.state()
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "version 0.1.0 is published with other bytes" in done.stderr
    assert place.state() == state


def test_a_revocation_is_published_once_and_never_lost(
    publisher: Publisher, place: Any, tmp_path: Path
) -> None:
    publisher.publish("0.1.0", "0.2.0")
    publisher.revoke("0.1.0", "wrong tokenizer", artifact_sha256="0" * 64)
    assert "published the revocation of phi3-tiny/" in publisher.publish().stdout
    listed = place.revocations()
    assert listed and received(place, tmp_path / "2") == "0.2.0"
    state = place.state()
    assert "published the revocation" not in publisher.publish().stdout
    assert place.state() == state

    publisher.forget_revocations()  # another machine goes on
    assert "is published already" in publisher.publish().stdout
    done = publisher.publish("0.1.0", check=False)
    assert done.returncode == 1
    assert "version 0.1.0 was revoked there: wrong tokenizer" in done.stderr
    assert place.state() == state
    publisher.publish("0.3.0")
    assert received(place, tmp_path / "3") == "0.3.0"
    assert place.revocations() == listed


def test_what_was_never_published_has_no_revocation_there(
    publisher: Publisher, place: Any, tmp_path: Path
) -> None:
    publisher.take("0.1.0")
    publisher.revoke("0.1.0", "wrong tokenizer", artifact_sha256="0" * 64)
    assert "was revoked, and is not published" in publisher.publish().stdout
    assert place.latest(tmp_path / "none") is None and place.revocations() is None
    publisher.publish("0.2.0")
    assert received(place, tmp_path / "first") == "0.2.0"
    assert place.revocations()  # the first publication takes earlier ones along
    state = place.state()
    publisher.publish()
    assert place.state() == state


def test_a_revocation_that_is_signed_again_is_published(
    publisher: Publisher, place: Any, verifier: Verifier, tmp_path: Path
) -> None:
    publisher.publish("0.1.0", "0.2.0")
    publisher.revoke("0.1.0", "wrong tokenizer", artifact_sha256="0" * 64)
    publisher.publish()
    listed = place.revocations()
    publisher.forget_revocations()
    publisher.revoke("0.1.0", "wrong tokenizer", artifact_sha256="0" * 64)  # by another key
    assert "published the revocation" in publisher.publish().stdout
    assert place.revocations() != listed
    assert "published the revocation" not in publisher.publish().stdout
    assert verifier.findings(place.latest(tmp_path / "latest")) == []


def test_a_corrupted_list_of_revocations_is_not_overwritten(
    publisher: Publisher, place: Any
) -> None:
    publisher.publish("0.1.0")
    place.write("revocations.json", b"{}")
    state = place.state()
    publisher.take("0.2.0")
    publisher.revoke("0.2.0", "wrong tokenizer")
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "is no list of revocations (malformed: " in done.stderr
    assert place.state() == state


def test_removals_are_listed_before_they_are_done(
    publisher: Publisher, place: Any, tmp_path: Path
) -> None:
    publisher.publish("0.1.0", "0.2.0")
    if isinstance(place, Hub):
        place.server.objects["0" * 64] = b"of an upload that no commit followed"
        unfinished, old = "large files from", "v0.1.0 from"
    else:
        publisher.take("0.3.0")
        assert publisher.killed_publish(5)
        unfinished, old = "its upload did not end", "0.1.0-"
    state = place.state()
    report = publisher.prune("--keep", "1").stdout
    assert "would remove" in report and "nothing was removed" in report
    assert unfinished in report and old in report and "1 newer are kept" in report
    assert place.state() == state
    publisher.prune("--keep", "1", "--yes")
    assert received(place, tmp_path / "left") == "0.2.0"
    assert "nothing to remove" in publisher.prune("--keep", "1").stdout
    if isinstance(place, Hub):
        assert set(place.server.lines[REPO].tags) == {"v0.2.0"}
        assert "0" * 64 not in place.server.objects
    else:
        assert len({name.split("/")[0] for name in place.files()}) == 2  # it, and latest.json
