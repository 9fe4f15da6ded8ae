"""A blob of a few bytes that was compiled from a small variant, whose stand-in speaks for it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phiforge.artifact.npu_blob import BLOB, LABEL
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import link_or_copy, sha256_file
from support.small_release import COMPILER, SmallVariant, npu_rows

STANDIN = "npu-standin"
FILES = ("weights.bin", "config.json", "LICENSE")


@dataclass
class SmallBlob(SmallVariant):
    """What a gate reads of a blob, to be edited by tests; the compiler has taken it."""

    def __init__(self, folder: Path) -> None:
        self.base = SmallVariant(folder / "base")
        of_base = replace(self.base.rows[STANDIN], base=self.base.variant)
        rows = {**npu_rows(), STANDIN: of_base}
        super().__init__(folder / "blob", rows, variant="npu-blob-4000", format="npu-blob")
        self.appear(COMPILER)

    def fill_payload(self) -> dict[str, Any]:
        """Add a blob, and the label that names what it was compiled from."""
        for name in FILES:
            link_or_copy(self.base.payload / name, self.payload / name)
        (self.payload / BLOB).write_bytes(b"code for an NPU: OVNPU")
        ir = {"file": "weights.bin", "sha256": sha256_file(self.payload / "weights.bin")}
        write_record(self.payload / LABEL, {"made_for": "NPU", "ir": {"bin": ir}})
        build = read_record(self.base.build)
        return {"derived_from": {key: build[key] for key in ("variant", "artifact_sha256")}}

    def compiled(self, name: str, **changes: Any) -> dict[str, Any]:
        """An honest receipt of the compiler: this blob came out."""
        receipt = super().compiled(name)
        receipt["compiled"]["blob_sha256"] = sha256_file(self.payload / BLOB)
        return {**receipt, **changes}

    def receipt(self, name: str) -> Path:
        """The stand-in's receipt is the base's."""
        owner = self.base if name == STANDIN else super()
        return owner.receipt(name)

    def present(self) -> dict[str, Any]:
        return {**super().present(), "base_path": self.base.build}
