"""SHA256SUMS: what sha256sum writes is read, and nothing else."""

import subprocess
from pathlib import Path

import pytest

from phiforge.artifact.checksums import ChecksumsError, parse_checksums

DIGEST = "0" * 64


def test_what_sha256sum_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a file", "folder/weights.bin"):
        (tmp_path / name).write_text(name)
    command = ["sha256sum", "a file", "./folder/weights.bin"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    listed = parse_checksums(done.stdout, "SHA256SUMS")
    assert listed == {line[66:].removeprefix("./"): line[:64] for line in done.stdout.splitlines()}
    assert set(listed) == {"a file", "folder/weights.bin"}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("MD5 (x) = 1", "malformed-checksums"),
        (DIGEST.replace("0", "A") + "  upper-case", "malformed-checksums"),
        (f"{DIGEST}  ../../etc/passwd", "hostile-name"),
        (f"{DIGEST}  /etc/passwd", "hostile-name"),
        (f"{DIGEST}  C:/windows", "hostile-name"),
        (f"{DIGEST}  ..\\secret", "hostile-name"),
        (f"{DIGEST}  weights\u202enib.bin", "hostile-name"),
        (f"{DIGEST}  aux.txt", "hostile-name"),
        (f"{DIGEST}  first", "duplicate-path"),
        (f"{DIGEST}  ./first", "duplicate-path"),
    ],
)
def test_anything_else_is_refused_by_name_and_line(line: str, name: str) -> None:
    with pytest.raises(ChecksumsError, match=r"^SHA256SUMS:2: ") as refused:
        parse_checksums(f"{DIGEST} *first\n{line}\n", "SHA256SUMS")
    assert refused.value.name == name
    assert str(refused.value).isascii()
