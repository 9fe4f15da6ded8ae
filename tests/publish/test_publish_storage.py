"""Releases in a folder and in an S3 bucket: pointer, uploads, refusals, configuration."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.published_places import Folder, folder_for
from support.publishing_runs import Publisher
from support.releasing import Verifier


@pytest.fixture
def folder(publisher: Publisher, tmp_path: Path) -> Iterator[Folder]:
    """A folder that the command publishes to."""
    with folder_for(publisher, tmp_path / "published") as place:
        yield place


def test_what_was_uploaded_is_not_uploaded_again_unless_it_is_corrupted(
    publisher: Publisher, folder: Folder
) -> None:
    publisher.take("0.1.0")
    assert publisher.killed_publish(12)
    uploaded = [path for path in folder.path.rglob("*") if path.is_file()]
    assert len(uploaded) == 11
    corrupted = max(uploaded, key=lambda path: path.stat().st_size)
    data = bytearray(corrupted.read_bytes())
    data[0] ^= 1
    corrupted.write_bytes(data)
    before = {path: path.stat().st_ino for path in uploaded}
    publisher.publish()
    assert [path for path in uploaded if path.stat().st_ino != before[path]] == [corrupted]
    assert folder.latest(folder.path.parent / "copy") is not None


def test_only_what_verify_and_the_configuration_accept_is_published(
    publisher: Publisher, folder: Folder, signed: Path, certified: Any
) -> None:
    publisher.take("0.1.0")
    publisher.policy["channel"] = "stable"
    assert "was not promoted to stable" in publisher.publish(check=False).stderr
    publisher.policy["channel"] = "candidate"
    publisher.policy["keys"] = [str(certified.public)]
    assert "not a key that you trust" in publisher.publish(check=False).stderr
    publisher.take(signed)
    (publisher.release / "extra.txt").write_text("not ours")
    done = publisher.publish(check=False)
    assert done.returncode == 1 and "extra.txt" in done.stderr
    assert not folder.path.exists()
    (publisher.release / "extra.txt").unlink()
    publisher.publish()
    assert folder.pointer()["latest"].startswith("0.1.0-")


def test_the_pointer_leaves_a_revoked_version_and_the_list_says_why(
    publisher: Publisher, folder: Folder, verifier: Verifier
) -> None:
    publisher.publish("0.1.0", "0.2.0")
    revoked = folder.path / folder.pointer()["latest"]
    publisher.revoke("0.2.0", "wrong tokenizer", artifact_sha256="0" * 64)
    assert "0.2.0 was revoked, and is not published" in publisher.publish().stdout
    pointer = folder.pointer()
    assert pointer["latest"].startswith("0.1.0-")
    marks = [version.get("revoked") for version in pointer["versions"]]
    assert marks == [None, "wrong tokenizer"]
    assert verifier.findings(folder.path / pointer["latest"]) == []
    assert verifier.findings(revoked) == ["revoked-version"]  # the list lies beside it
    # Pruning keeps the newest, and the latest.
    assert "nothing to remove" in publisher.prune("--keep", "1").stdout


@pytest.mark.parametrize(("call", "where"), [(1, "within"), (1, "after"), (2, "before")])
def test_a_kill_while_it_is_revoked_leaves_the_old_pointer(
    publisher: Publisher, folder: Folder, call: int, where: str
) -> None:
    publisher.publish("0.1.0")
    pointer = folder.pointer()
    publisher.revoke("0.1.0", "wrong tokenizer")
    assert publisher.killed_publish(call, where)
    assert folder.pointer() == pointer
    assert (folder.revocations() is not None) is (where != "within")
    publisher.publish()
    assert folder.pointer()["latest"] is None  # no version is left
    assert folder.revocations() is not None

    (folder.path / "revocations.json").unlink()  # the mark in the pointer outlives the list
    publisher.forget_revocations()
    done = publisher.publish(check=False)
    assert "version 0.1.0 was revoked there: wrong tokenizer" in done.stderr
    assert folder.pointer()["latest"] is None


def test_a_place_that_fails_keeps_nothing_from_the_others(
    publisher: Publisher, folder: Folder, tmp_path: Path
) -> None:
    other = Folder(tmp_path / "other")
    publisher.policy["storage"].insert(0, {"url": str(tmp_path / "other")})
    publisher.publish("0.1.0")
    other.write("revocations.json", b"{}")
    assert publisher.publish("0.2.0", check=False).returncode == 1
    assert folder.pointer()["latest"].startswith("0.2.0-")
    publisher.revoke("0.2.0", "wrong tokenizer")
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "is no list of revocations (malformed: " in done.stderr
    assert other.revocations() == b"{}"
    assert folder.pointer()["latest"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "s4://bucket/x"}, "Protocol not known: s4"),
        ({"url": "gs://bucket/x"}, "Please install gcsfs"),
        ({"url": "sftp://me:s3cret@host/x"}, "a URL is a secret and does not belong in"),
        ({"options": {"regoin": "eu"}}, "unexpected keyword argument 'regoin'"),
        ({"options": {"secret_key": "s3cret"}}, "s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
        (
            {"options": {"endpoint_url": "http://127.0.0.1:9", "region": "eu", "retries": 1}},
            "not published: s3://bucket/x/phi3-tiny/",
        ),
    ],
)
def test_a_mistaken_storage_is_named_in_one_line(
    publisher: Publisher, change: dict[str, Any], message: str
) -> None:
    publisher.take("0.1.0")
    publisher.policy["storage"] = [{"url": "s3://bucket/x", **change}]
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cret"}
    done = publisher.publish(check=False, **keys)
    assert done.returncode == 1
    assert message in done.stderr and "s3cret" not in done.stderr
