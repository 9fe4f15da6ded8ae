"""What stable needs, what it says is missing, when a promotion does not hold, and revocations."""

import copy
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.record import read_record, write_into, write_record
from phiforge.jobs import Blocked
from phiforge.receipts.policy import PROMOTION, is_promoted
from phiforge.release.promotion import (
    PromotionError,
    load_promotion,
    promote,
    release_signer,
)
from phiforge.release.revoke import revoke
from phiforge.release.signing import ReleaseKey, SigningError
from phiforge.release.stable import report
from phiforge.release.versions import VersionError
from phiforge.trust import TrustError, keys
from phiforge.trust.envelope import open_envelope, sign
from phiforge.verify.promotion import DEVICES
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support.release_edits import Edit, flipped, listed, remove, replaced, updated, write
from support.releasing import copy_release
from support.small_blob import SmallBlob
from support.small_release import MODEL, NPU, VARIANT, SmallVariant

SIGNER = replace(keys.ephemeral("ecdsa"), ephemeral=False)
KEY = ReleaseKey(SIGNER)
TRUST = Trust((SIGNER.public_key,))
ATTESTATION = "evidence/receipts/npu-4000.dsse.json"


@pytest.fixture(scope="module")
def variant(tmp_path_factory: pytest.TempPathFactory) -> SmallVariant:
    """A variant whose device rows name keys that have signed."""
    made = SmallVariant(tmp_path_factory.mktemp("promotion") / "variant")
    made.name_key("cpu", keys.ephemeral())
    made.name_key(NPU, keys.ephemeral())
    return made


@pytest.fixture(scope="module")
def original(variant: SmallVariant) -> Path:
    return variant.release(KEY)


@pytest.fixture
def release(original: Path, tmp_path: Path) -> Path:
    return copy_release(original, tmp_path / MODEL / VARIANT)


@pytest.fixture(scope="module")
def build(variant: SmallVariant) -> dict[str, Any]:
    return read_record(variant.build)


def names(root: Path, **arguments: Any) -> list[str]:
    findings = verify(root, TRUST, **arguments).findings
    return [finding.name for finding in findings if finding.refuses]


def test_a_release_whose_device_receipts_are_signed_is_promoted_and_kept(
    release: Path, build: dict[str, Any]
) -> None:
    record = promote(release, build, SIGNER)
    assert record["promoted"] and record["keyid"] == SIGNER.public_key.keyid
    assert [*record["devices"]] == [
        {"row": "cpu", "generation": None, "driver": None},
        {"row": NPU, "generation": "4000", "driver": "32.0.100"},
    ]
    written = (release / "evidence" / PROMOTION).read_bytes()
    assert promote(release, build, SIGNER) == record
    assert promote(release, build, None) == record, "a promotion is kept without a key"
    assert (release / "evidence" / PROMOTION).read_bytes() == written
    assert names(release, channel="stable") == []


def test_a_promotion_names_the_driver_that_its_receipts_prove(
    release: Path, build: dict[str, Any]
) -> None:
    promote(release, build, SIGNER)
    path = release / "evidence" / PROMOTION
    statement, _ = open_envelope(read_record(path), [SIGNER.public_key])
    statement["predicate"][DEVICES][1]["driver"] = "32.0.101"
    write_record(path, sign(statement, SIGNER))
    (finding,) = verify(release, TRUST).findings
    assert finding.name == "inconsistent-promotion"
    assert "names other generations or drivers" in finding.what


def test_stable_rests_on_the_rows_that_are_named(
    variant: SmallVariant, build: dict[str, Any], tmp_path: Path
) -> None:
    some = copy.copy(variant)
    some.folder, some.rows = tmp_path / "variant", dict(variant.rows)
    shutil.copytree(variant.folder, some.folder)
    blocked_row(some)
    some.change(NPU, required=False)
    release = some.release(KEY, tmp_path / VARIANT)
    assert [one["row"] for one in promote(release, build, SIGNER)["devices"]] == ["cpu"]
    stable = verify(release, TRUST, channel="stable")
    assert not stable.refused
    told = {row: str(known) for row, known in stable.devices.items()}
    assert told == {"cpu": "passed", NPU: "not asked"}


def test_a_blob_is_stable_by_its_device_and_keeps_its_irs_stand_in(tmp_path: Path) -> None:
    blob = SmallBlob(tmp_path / "variants")
    blob.name_key(NPU, keys.ephemeral())
    release = blob.release(KEY)
    record = promote(release, read_record(blob.build), SIGNER)
    assert [*record["devices"]] == [{"row": NPU, "generation": "4000", "driver": "32.0.100"}]
    assert not verify(release, TRUST, channel="stable").refused


def test_another_artifact_than_the_builds_is_not_promoted(
    release: Path, build: dict[str, Any]
) -> None:
    with pytest.raises(PromotionError, match="of another artifact than the build"):
        promote(release, {**build, "artifact_sha256": "0" * 64}, SIGNER)


def blocked_row(variant: SmallVariant) -> None:
    variant.change(NPU, available=False)
    variant.block(NPU)


def no_key(variant: SmallVariant) -> None:
    variant.change(NPU, key=None)


def no_device(variant: SmallVariant) -> None:
    variant.rows = {"npu-standin": variant.rows["npu-standin"]}


def nothing(variant: SmallVariant) -> None:
    pass


@pytest.mark.parametrize(
    ("lack", "signer", "row", "what", "how"),
    [
        (blocked_row, SIGNER, NPU, "blocked (no NPU here)", "run it where one is"),
        (no_key, SIGNER, NPU, "the row names no key", "phiforge new-key"),
        (no_device, SIGNER, "no device row", "a stand-in is no device", "name a device row"),
        (nothing, None, "release key", "no key to sign with", "PHIFORGE_SIGNING_KEY"),
        (nothing, keys.ephemeral("ecdsa"), "release key", "by another key", "run again with"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(
    variant: SmallVariant,
    build: dict[str, Any],
    tmp_path: Path,
    lack: Callable[[SmallVariant], None],
    signer: keys.Signer | None,
    row: str,
    what: str,
    how: str,
) -> None:
    lacking = copy.copy(variant)
    lacking.folder, lacking.rows = tmp_path / "variant", dict(variant.rows)
    shutil.copytree(variant.folder, lacking.folder)
    lack(lacking)
    release = lacking.release(KEY, tmp_path / VARIANT)
    record = promote(release, build, signer)
    assert record["promoted"] is False and not is_promoted(release)
    (missing,) = record["missing"]
    assert missing["row"] == row and what in missing["what"] and how in missing["how"]


def test_what_verify_refuses_is_not_promoted(release: Path, build: dict[str, Any]) -> None:
    flipped("weights.bin")(release)
    with pytest.raises(PromotionError, match=r"verify refuses the release: .*changed-file"):
        promote(release, build, SIGNER)
    assert not is_promoted(release)


def a_test_result(release: Path) -> None:
    shutil.copyfile(release / ATTESTATION, release / "evidence" / PROMOTION)


@pytest.mark.parametrize(
    "edit",
    [
        listed("other.bin"),
        write(ATTESTATION, b"{}"),
        remove(ATTESTATION),
        write(f"evidence/{PROMOTION}", b'{"promoted": true}'),
        a_test_result,
        updated("evidence/gate.json", "policy", "rows", "cpu", keyid="0" * 64),
    ],
)
def test_a_promotion_that_does_not_hold_is_refused_by_everyone(
    release: Path, build: dict[str, Any], edit: Edit
) -> None:
    promote(release, build, SIGNER)
    edit(release)
    with pytest.raises(PromotionError, match="this promotion does not hold"):
        load_promotion(release)
    assert names(release) != []


def test_a_promotion_by_another_key_is_not_ours(release: Path, build: dict[str, Any]) -> None:
    promote(release, build, SIGNER)
    with pytest.raises(PromotionError, match="signed by another key"):
        load_promotion(release, keys.ephemeral().public_key)


def test_a_kill_within_a_promotion_leaves_nothing_in_the_release(
    release: Path, build: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scratch file lies beside the release; the same command completes."""

    def killed(change: Callable[[], object]) -> None:
        if not (child := os.fork()):
            monkeypatch.setattr(Path, "replace", lambda *paths: os._exit(9))
            change()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

    killed(lambda: promote(release, build, SIGNER))
    assert names(release) == []
    assert promote(release, build, SIGNER)["promoted"]
    assert names(release, channel="stable") == []
    killed(lambda: write_into(release, "MANIFEST.json", "half"))
    assert names(release, channel="stable") == []


def test_the_report_names_what_is_missing_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = [{"row": NPU, "what": "blocked (no NPU here)", "how": "run it where one is"}]
    record = {"model": "m", "variant": "w", "promoted": False, "missing": missing}
    write_record(tmp_path / "one.json", record)
    devices = [{"row": NPU, "generation": "4000", "driver": "32.0.100"}]
    stable = {"promoted": True, "since": "today", "keyid": "ab" * 32, "devices": devices}
    write_record(tmp_path / "two.json", {**record, "variant": "x", **stable})
    with pytest.raises(PromotionError, match="2 of 3 releases are not stable"):
        report(
            [tmp_path / "one.json", tmp_path / "two.json"],
            {"m/v": Blocked("no compiler", "get one")},
        )
    assert capsys.readouterr().out.splitlines() == [
        "m w: npu-4000 is missing: blocked (no NPU here). To get it: run it where one is",
        "m x: stable since today, signed by key abababababababab, resting on npu-4000 "
        "(driver 32.0.100)",
        "m v: not built here: no compiler. get one",
    ]


def test_the_release_key_comes_from_the_environment_or_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert release_signer({}) is None
    for name in ("configured", "named"):
        keys.new_key(tmp_path / f"{name}.key", tmp_path / f"{name}.pub", b"sesame", "ecdsa")
    configured = {"key": str(tmp_path / "configured.key"), "password_env": "OUR_PASSWORD"}
    with pytest.raises(SigningError, match="OUR_PASSWORD is not set"):
        release_signer(configured)
    monkeypatch.setenv("OUR_PASSWORD", "barley")
    with pytest.raises(TrustError, match="the password is wrong") as caught:
        release_signer(configured)
    assert "barley" not in str(caught.value)
    monkeypatch.setenv("OUR_PASSWORD", "sesame")
    signer = release_signer(configured)
    assert signer and signer.public_key == keys.read_public(tmp_path / "configured.pub")
    monkeypatch.setenv(keys.SIGNING_KEY, str(tmp_path / "named.key"))
    signer = release_signer(configured)
    assert signer and signer.public_key == keys.read_public(tmp_path / "named.pub")
    keys.new_key(tmp_path / "ed.key", tmp_path / "ed.pub")
    monkeypatch.setenv(keys.SIGNING_KEY, str(tmp_path / "ed.key"))
    with pytest.raises(SigningError, match=r"takes no Ed25519 key.*--kind ecdsa"):
        release_signer({})


def test_a_revoked_release_is_refused_by_whatever_path_it_is_reached(release: Path) -> None:
    revoke(release.parent, VARIANT, "0.1.0", "answers in verse only", KEY)
    link = release.parent.parent.parent / "current"
    link.symlink_to(release)
    for root in (release, link, release / "evidence/..", release / ".." / VARIANT):
        (finding,) = verify(root, TRUST).findings
        assert finding.name == "revoked-version" and "its signer" in finding.what
        assert "answers in verse only" in finding.what


def test_a_list_beside_a_link_counts_as_well(release: Path, tmp_path: Path) -> None:
    listed = revoke(release.parent, VARIANT, "0.1.0", "wrong", KEY)
    (tmp_path / "links").mkdir()
    listed.rename(tmp_path / "links/revocations.json")
    (tmp_path / "links/current").symlink_to(release)
    assert names(release) == []
    assert names(tmp_path / "links/current") == ["revoked-version"]
    assert names(release, revocations=tmp_path / "links/revocations.json") == ["revoked-version"]


def test_an_edited_list_of_revocations_is_refused(release: Path) -> None:
    revoke(release.parent, VARIANT, "0.1.0", "wrong", KEY)
    payload = read_record(release.parent / "revocations.json")["revocations"][0]["payload"]
    replaced("../revocations.json", payload[:40], "A" * 40)(release)
    assert names(release) == ["bad-signature"]


def test_a_revocation_needs_the_release_key_and_can_be_repeated_with_it(
    release: Path, variant: SmallVariant
) -> None:
    ephemeral = ReleaseKey(keys.ephemeral("ecdsa"))
    with pytest.raises(VersionError, match="no release key is named to revoke it"):
        revoke(release.parent, VARIANT, "0.1.0", "wrong", ephemeral)
    assert names(release) == []
    with pytest.raises(VersionError, match=r"there is no version 9\.9\.9"):
        revoke(release.parent, VARIANT, "9.9.9", "wrong", KEY)
    shutil.rmtree(release)
    variant.release(ephemeral, release)  # nobody's word counts for more
    listed = revoke(release.parent, VARIANT, "0.1.0", "wrong", ephemeral)
    once = listed.read_bytes()
    revoke(release.parent, VARIANT, "0.1.0", "wrong", ephemeral)
    assert listed.read_bytes() == once
    revoke(release.parent, VARIANT, "0.1.0", "really wrong", KEY)
    assert len(read_record(listed)["revocations"]) == 1
    (finding,) = (one for one in verify(release, TRUST).findings if one.name == "revoked-version")
    assert f"by key {KEY.keyid}: really wrong" in finding.what
