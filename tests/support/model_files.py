"""The YAML file of a model that is not phiforge's own."""

from pathlib import Path

import yaml


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
