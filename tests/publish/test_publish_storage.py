"""Releases in a folder and in an S3 bucket, through fsspec."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support.checkout import Checkout
from support.publishing_runs import NAME, Publisher
from support.releasing import Verifier

Versions = Callable[[str], Path]


@pytest.fixture
def folder(publisher: Publisher, tmp_path: Path) -> Path:
    """A folder that the command publishes to."""
    shelf = tmp_path / "shelf"
    publisher.policy["storage"] = [{"url": str(shelf)}]
    return shelf / NAME


def latest(folder: Path) -> Path:
    """Where the pointer points; everything there must be a release that verify accepts."""
    pointer = json.loads((folder / "latest.json").read_text())
    place = folder / pointer["latest"]
    found = verify(place, Trust())
    assert not found.refused, found.findings
    assert pointer["versions"][-1]["version"] == found.version
    return place


def files(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file's inode and digest."""
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_ino,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_version_is_published_once_and_then_the_next(
    publisher: Publisher, folder: Path, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    assert "published phi3-tiny/" in publisher.publish().stdout
    first = latest(folder)
    before = files(folder)
    assert "is published already" in publisher.publish().stdout
    assert files(folder) == before
    publisher.take(versions("0.2.0"))
    publisher.publish()
    assert latest(folder) != first
    assert not verify(first, Trust()).refused
    assert not list(publisher.root.rglob("publishing/*.lock/*"))


def test_what_was_uploaded_is_not_uploaded_again_unless_it_is_spoilt(
    publisher: Publisher, folder: Path, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    assert publisher.killed_publish(12)
    uploaded = [path for path in folder.rglob("*") if path.parent.name.startswith("0.1.0-")]
    spoilt = max(uploaded, key=lambda path: path.stat().st_size)
    data = bytearray(spoilt.read_bytes())
    data[0] ^= 1
    spoilt.write_bytes(data)
    before = files(folder)
    publisher.publish()
    latest(folder)
    after = files(folder)
    again = {name for name in before if name in after and before[name][0] != after[name][0]}
    assert again == {spoilt.relative_to(folder).as_posix()}


def test_only_what_verify_and_the_policy_accept_is_published(
    publisher: Publisher, folder: Path, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.policy["channel"] = "stable"
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "was not promoted to stable" in done.stderr
    publisher.policy["channel"] = "candidate"
    (publisher.release / "extra.txt").write_text("not ours")
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "extra.txt" in done.stderr
    assert not folder.exists()


def test_a_key_that_is_asked_for_must_have_signed(
    publisher: Publisher, folder: Path, versions: Versions, signed: Path, certified: Any
) -> None:
    publisher.policy["keys"] = [str(certified.public)]
    publisher.take(versions("0.1.0"))
    done = publisher.publish(check=False)
    assert "not a key that you trust" in done.stderr and not folder.exists()
    publisher.take(signed)
    publisher.publish()
    latest(folder)


def test_a_version_never_comes_to_mean_other_bytes(
    publisher: Publisher, folder: Path, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.publish()
    pointer = json.loads((folder / "latest.json").read_text())
    pointer["versions"][0].update(artifact_sha256="0" * 64, folder="0.1.0-000000000000")
    (folder / "latest.json").write_text(json.dumps(pointer))
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "version 0.1.0 is published with other bytes" in done.stderr
    assert json.loads((folder / "latest.json").read_text()) == pointer


def test_a_clean_up_is_said_before_it_is_done(
    publisher: Publisher, folder: Path, versions: Versions
) -> None:
    for version in ("0.1.0", "0.2.0"):
        publisher.take(versions(version))
        publisher.publish()
    publisher.take(versions("0.3.0"))
    assert publisher.killed_publish(5)
    before = files(folder)
    said = publisher.prune("--keep", "1").stdout
    assert "would remove" in said and " 0.1.0-" in said and "1 newer are kept" in said
    assert " 0.3.0-" in said and "its upload did not end" in said
    assert "nothing was removed" in said
    assert files(folder) == before
    publisher.prune("--keep", "1", "--yes")
    assert latest(folder).name.startswith("0.2.0-")
    assert {path.name for path in folder.iterdir()} == {latest(folder).name, "latest.json"}
    assert "nothing to remove" in publisher.prune("--keep", "1").stdout


def test_the_pointer_leaves_a_revoked_version_and_the_list_tells_why(
    publisher: Publisher, folder: Path, versions: Versions, verifier: Verifier
) -> None:
    for version in ("0.1.0", "0.2.0"):
        publisher.take(versions(version))
        publisher.publish()
    revoked = latest(folder)
    publisher.revoke("0.2.0", "wrong tokenizer", artifact_sha256="0" * 64)
    done = publisher.publish()
    assert "published the revocation of phi3-tiny/" in done.stdout
    assert "0.2.0 was revoked, and is not published" in done.stdout
    pointer = json.loads((folder / "latest.json").read_text())
    assert pointer["latest"].startswith("0.1.0-")
    assert [one.get("revoked") for one in pointer["versions"]] == [None, "wrong tokenizer"]
    assert verifier.findings(folder / pointer["latest"]) == []
    assert verifier.findings(revoked) == ["revoked-version"]  # the list lies beside it
    before = files(folder)
    publisher.publish()
    assert files(folder) == before
    said = publisher.prune("--keep", "1").stdout
    assert "nothing to remove" in said  # the newest, and the one that counts

    publisher.forget_revocations()  # another machine goes on
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "version 0.2.0 was revoked there: wrong tokenizer" in done.stderr
    assert files(folder) == before
    publisher.take(versions("0.3.0"))
    publisher.publish()
    assert latest(folder).name.startswith("0.3.0-")
    pointer = json.loads((folder / "latest.json").read_text())
    told = [one.get("revoked") for one in pointer["versions"]]
    assert told == [None, "wrong tokenizer", None]
    assert verifier.findings(revoked) == ["revoked-version"]
    publisher.prune("--keep", "1", "--yes")
    left = {latest(folder).name, "latest.json", "revocations.json"}
    assert {path.name for path in folder.iterdir()} == left
    publisher.take(versions("0.2.0"))
    assert "was revoked there" in publisher.publish(check=False).stderr


def test_where_every_version_was_revoked_none_counts(
    publisher: Publisher, folder: Path, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.revoke("0.1.0", "wrong tokenizer", artifact_sha256="0" * 64)
    publisher.publish()
    assert not folder.exists()  # nothing of it was ever there
    publisher.forget_revocations()
    publisher.publish()
    publisher.revoke("0.1.0", "wrong tokenizer")
    publisher.publish()
    assert json.loads((folder / "latest.json").read_text())["latest"] is None
    assert "nothing to remove" in publisher.prune("--keep", "1").stdout


def test_a_mark_in_the_pointer_outlives_a_list_that_was_lost(
    publisher: Publisher, folder: Path, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.publish()
    publisher.revoke("0.1.0", "wrong tokenizer")
    publisher.publish()
    (folder / "revocations.json").unlink()
    publisher.forget_revocations()
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "version 0.1.0 was revoked there: wrong tokenizer" in done.stderr
    assert json.loads((folder / "latest.json").read_text())["latest"] is None


@pytest.mark.parametrize(("call", "where"), [(1, "within"), (1, "after"), (2, "before")])
def test_a_kill_while_it_is_revoked_leaves_the_old_pointer(
    publisher: Publisher, folder: Path, versions: Versions, call: int, where: str
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.publish()
    pointer = (folder / "latest.json").read_bytes()
    publisher.revoke("0.1.0", "wrong tokenizer")
    assert publisher.killed_publish(call, where)
    assert (folder / "latest.json").read_bytes() == pointer
    assert (folder / "revocations.json").is_file() is (where != "within")
    publisher.publish()
    assert json.loads((folder / "latest.json").read_text())["latest"] is None
    assert (folder / "revocations.json").is_file()


def test_one_places_trouble_keeps_nothing_from_the_others(
    publisher: Publisher, folder: Path, versions: Versions, tmp_path: Path
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.policy["storage"].insert(0, {"url": str(tmp_path / "other")})
    publisher.publish()
    spoilt = tmp_path / "other" / NAME / "revocations.json"
    spoilt.write_text("{}")
    publisher.take(versions("0.2.0"))
    assert publisher.publish(check=False).returncode == 1
    assert latest(folder).name.startswith("0.2.0-")
    publisher.revoke("0.2.0", "wrong tokenizer")
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "is no list of revocations (malformed: " in done.stderr
    assert spoilt.read_text() == "{}"
    assert json.loads((folder / "latest.json").read_text())["latest"] is None


def test_there_must_be_a_place_to_publish_to(publisher: Publisher) -> None:
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert "there is nowhere to publish to" in done.stderr


def test_the_target_publishes_where_the_configuration_says(
    pipeline: Checkout, tmp_path: Path
) -> None:
    variant = f"variants={NAME.split('/')[1]}"
    storage = [{"url": str(tmp_path / "shelf")}]
    policy = f"publish={json.dumps({'channel': 'candidate', 'storage': storage})}"
    for told in ("published phi3-tiny/", "is published already"):
        done = pipeline.snakemake("--cores", "1", "publish", "--config", variant, policy)
        assert told in done.stdout + done.stderr
        latest(tmp_path / "shelf" / NAME)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"url": "s4://bucket/x"}, "Protocol not known: s4"),
        ({"url": "gs://bucket/x"}, "Please install gcsfs"),
        ({"url": "sftp://me:s3cret@host/x"}, "a password does not belong in the configuration"),
        ({"options": {"regoin": "eu"}}, "'s3' has no option 'regoin'. Remedy: write 'region'"),
        ({"options": {"secret_key": "s3cret"}}, "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_mistaken_storage_is_named(
    publisher: Publisher, versions: Versions, change: dict[str, Any], told: str
) -> None:
    publisher.take(versions("0.1.0"))
    publisher.policy["storage"] = [{"url": "s3://bucket/x", **change}]
    done = publisher.publish(check=False)
    assert done.returncode == 1
    assert told in done.stderr and "s3cret" not in done.stderr


class Bucket:
    """What lies in a bucket of moto's S3 server."""

    def __init__(self, address: str) -> None:
        self.client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )

    def get(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket="releases", Key=key)["Body"].read()
        return data

    def latest(self, into: Path) -> Path:
        """Download what the pointer points to, as someone who receives it would."""
        pointer = json.loads(self.get(f"models/{NAME}/latest.json"))
        place = into / pointer["latest"]
        for name in pointer["versions"][-1]["files"]:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(self.get(f"models/{NAME}/{pointer['latest']}/{name}"))
        found = verify(place, Trust())
        assert not found.refused, found.findings
        return place


@pytest.fixture
def bucket(publisher: Publisher) -> Iterator[Bucket]:
    """A bucket on loopback that the command publishes to."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    publisher.policy["storage"] = [
        {
            "url": "s3://releases/models",
            "options": {"endpoint_url": address, "region": "us-east-1"},
        }
    ]
    publisher.environment |= {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    try:
        yield Bucket(address)
    finally:
        server.stop()


def test_a_bucket_has_the_old_version_until_it_has_the_new_one(
    publisher: Publisher, bucket: Bucket, versions: Versions, tmp_path: Path
) -> None:
    publisher.take(versions("0.1.0"))
    done = publisher.publish()
    assert "secret" not in done.stdout + done.stderr
    assert bucket.latest(tmp_path / "1").name.startswith("0.1.0-")
    publisher.take(versions("0.2.0"))
    for call, where in ((1, "after"), (8, "before"), (9, "after")):
        assert publisher.killed_publish(call, where)
        assert bucket.latest(tmp_path / f"{call}").name.startswith("0.1.0-")
    publisher.publish()
    assert bucket.latest(tmp_path / "2").name.startswith("0.2.0-")
    assert "is published already" in publisher.publish().stdout
    publisher.prune("--keep", "1", "--yes")
    assert bucket.latest(tmp_path / "3").name.startswith("0.2.0-")
    listed = bucket.client.list_objects_v2(Bucket="releases")["Contents"]
    assert not [one["Key"] for one in listed if "/0.1.0-" in one["Key"]]


def test_a_bucket_hears_of_a_revocation_and_keeps_it(
    publisher: Publisher, bucket: Bucket, versions: Versions, tmp_path: Path
) -> None:
    for version in ("0.1.0", "0.2.0"):
        publisher.take(versions(version))
        publisher.publish()
    publisher.revoke("0.2.0", "wrong tokenizer", artifact_sha256="0" * 64)
    publisher.publish()
    pointer = json.loads(bucket.get(f"models/{NAME}/latest.json"))
    assert pointer["latest"].startswith("0.1.0-")
    told = bucket.get(f"models/{NAME}/revocations.json")
    assert "published the revocation" not in publisher.publish().stdout
    publisher.forget_revocations()
    publisher.take(versions("0.3.0"))
    publisher.publish()
    assert bucket.latest(tmp_path).name.startswith("0.3.0-")
    assert bucket.get(f"models/{NAME}/revocations.json") == told


def test_a_storage_that_does_not_answer_is_one_line(
    publisher: Publisher, versions: Versions
) -> None:
    publisher.take(versions("0.1.0"))
    options = {"endpoint_url": "http://127.0.0.1:9", "region": "us-east-1", "retries": 1}
    publisher.policy["storage"] = [{"url": "s3://releases", "options": options}]
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s3cret"}
    done = publisher.publish(check=False, **keys)
    assert done.returncode == 1
    assert "not published: s3://releases/phi3-tiny/" in done.stderr
    assert "s3cret" not in done.stderr
