"""phi3-tiny's payloads are the same bytes wherever and whenever they are built.

After a change that is meant to alter them:
``pytest --update-payload-sha256 tests/pipeline/test_payload_bytes.py``, and a line in CHANGELOG.md.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from support.checkout import ROOT, available_variants

LIST = ROOT / "tests/pipeline/payload-sha256.txt"
DESCRIPTIONS = {"MANIFEST.json", "SHA256SUMS"}  # of the payload; their keys may change


def listed() -> dict[str, str]:
    """Path ``<variant>/<file>`` to SHA-256, as the list has them."""
    return {line[66:]: line[:64] for line in LIST.read_text().splitlines()}


def digests(variant: str, payload: Path) -> dict[str, str]:
    """Path ``<variant>/<file>`` to SHA-256 of every file that a runtime loads."""
    return {
        f"{variant}/{path.relative_to(payload).as_posix()}": hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in payload.rglob("*")
        if path.is_file() and path.name not in DESCRIPTIONS
    }


@pytest.mark.parametrize(
    "variant", sorted({*available_variants(), *(path.split("/")[0] for path in listed())})
)
def test_a_payload_has_the_listed_bytes(
    variant: str, built: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    if variant not in available_variants():
        pytest.skip(f"{variant} is blocked here (docs/npu-library.md, docs/npu-blob.md)")
    found = digests(variant, built(variant))
    expected = {path: sha for path, sha in listed().items() if path.startswith(f"{variant}/")}
    if request.config.getoption("--update-payload-sha256"):
        kept = {path: sha for path, sha in listed().items() if path not in expected}
        lines = [f"{sha}  {path}\n" for path, sha in sorted((kept | found).items())]
        LIST.write_text("".join(lines))
        return
    assert found == expected
