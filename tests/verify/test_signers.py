"""Who signed a release counts only if the reader named them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from phiforge.cli import main
from phiforge.release.signing import ReleaseKey, release_key
from phiforge.trust import keys
from phiforge.trust.certificates import parse_subject, read_certificates
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support.release_edits import updated
from support.releasing import Certified, make_certified
from support.small_release import SmallVariant, refusals


def test_a_release_whose_key_nobody_named_proves_integrity_only(release: Path) -> None:
    verification = verify(release, Trust())
    assert refusals(verification) == [] and not verification.authenticated
    assert [finding.name for finding in verification.findings] == ["unknown-signer"]


def test_only_the_key_that_the_reader_names_counts(
    release: Path, variant: SmallVariant, key: ReleaseKey, trust: Trust, tmp_path: Path
) -> None:
    assert refusals(verify(release, Trust((keys.ephemeral().public_key,)))) == ["wrong-key"]
    forged = variant.release(into=tmp_path / "forged")
    assert refusals(verify(forged, trust)) == ["wrong-key"]
    # Now they say that the key was ours, and ship it.
    next((forged / "evidence/keys").iterdir()).unlink()
    (forged / f"evidence/keys/{key.keyid}.pub").write_text(key.public_pem)
    updated("evidence/release.json", "signer", keyid=key.keyid)(forged)
    assert "wrong-key" in refusals(verify(forged, trust))


def test_certificates_lead_to_an_authority_and_expire(
    release: Path, certified: Certified, trust: Trust, tmp_path: Path
) -> None:
    now = datetime.now(UTC)

    def authority(of: Certified, *subjects: str) -> Trust:
        root = tuple(read_certificates(of.authority.read_bytes(), "root"))
        return Trust(authorities=root, subjects=tuple(map(parse_subject, subjects)))

    for reader in (Trust(), trust, authority(certified, "O=Acme,CN=x", certified.subject)):
        at = replace(reader, at=now + timedelta(days=60))
        assert refusals(verify(release, reader)) == []
        assert refusals(verify(release, at)) == ["expired-certificate"]
    early = Trust(at=now - timedelta(days=60))
    assert refusals(verify(release, early)) == ["future-certificate"]
    other = authority(make_certified(tmp_path / "other"), certified.subject)
    assert refusals(verify(release, other)) == ["untrusted-certificate"]
    for subjects in ([], ["CN=a printer"], ["CN=a leaf,O=Acme"]):
        anyone = authority(certified, *subjects)
        assert refusals(verify(release, anyone)) == ["wrong-subject"]


def test_a_certificate_for_a_server_does_not_sign(variant: SmallVariant, tmp_path: Path) -> None:
    server = make_certified(tmp_path / "server", purpose="serverAuth")
    root = tuple(read_certificates(server.authority.read_bytes(), "root"))
    reader = Trust(authorities=root, subjects=(parse_subject(server.subject),))
    release = variant.release(release_key(server.signing()), tmp_path / "release")
    assert refusals(verify(release, reader)) == ["wrong-certificate"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 3, "NOBODY THAT YOU NAMED SIGNED IT"),
        (["--any-signer"], 0, "INTACT"),
        (["--key", "{public}"], 0, "VERIFIED"),
        (["--ca", "{authority}", "--subject", "CN=a leaf"], 0, "VERIFIED"),
        (["--ca", "{authority}"], 1, "is of CN=a leaf, and nobody's certificate was named"),
        (["--ca", "{authority}", "--subject", ""], 1, "not the subject of a certificate"),
        (["--ca", "{authority}", "--subject", "me"], 1, "-nameopt RFC2253"),
        (["--subject", "CN=a leaf"], 1, "give --ca CERT as well"),
        (["--key", "{public}", "--any-signer"], 1, "--any-signer contradicts --key"),
    ],
)
def test_the_exit_code_is_0_only_for_a_signer_that_was_named(
    release: Path,
    certified: Certified,
    arguments: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = [one.format(**vars(certified)) for one in arguments]
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(release), *named])
    printed = capsys.readouterr()
    assert ended.value.code == code and said in printed.out + printed.err
