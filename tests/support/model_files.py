"""The YAML file of a model that is not phiforge's own."""

import hashlib
from pathlib import Path

import yaml


def record_checksums(weights: Path) -> None:
    """Write ``SHA256SUMS`` of a folder's files."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(weights.iterdir())
        if path.name != "SHA256SUMS"
    ]
    (weights / "SHA256SUMS").write_text("".join(lines))


def model_file(folder: Path, name: str, **changes: object) -> Path:
    """Describe the weights and the golden prompts that are beside the file."""
    document = {
        "name": name,
        "title": "A model from outside",
        "license": "MIT",
        "parameters": 10_000_000,
        "source": {"path": "weights", "checksums": "SHA256SUMS"},
        "golden": "golden.yaml",
        **changes,
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(document))
    return path
