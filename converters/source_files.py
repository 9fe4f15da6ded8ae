"""The small files of a source that a payload carries: configuration and tokenizer.

Exports rewrite tokenizer files (another ``tokenizer_class``, ``is_local``); the source's own are
what the model was published with, so these are shipped, byte for byte.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from converters.contract import ConvertError
from phiforge.artifact.payload_files import CONFIGURATION, TOKENIZER_FILES
from phiforge.artifact.record import read_record, write_record


def copy_source_files(source: Path, into: Path) -> None:
    """Copy the configuration and tokenizer files that ``source`` has.

    Only a pointer to remote code (``auto_map``) is taken out of ``config.json``: transformers has
    Phi-3 built in, and a release must not ask its users to trust code from elsewhere.
    """
    copy_files(source, into, (*CONFIGURATION, *TOKENIZER_FILES))
    configuration = read_record(into / "config.json")
    if configuration.pop("auto_map", None) is not None:
        write_record(into / "config.json", configuration)


def refuse_other_source(base: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """Refuse to derive a variant from one that was built of another source.

    Args:
        base: BUILD.json of the variant named by ``from:``.
        source: SOURCE.json.

    Raises:
        ConvertError: the two name different sources.
    """
    if base["source"] != source:
        raise ConvertError(
            "the variant named by 'from' was built of another source than this one",
            where=base.get("variant"),
            remedy="rebuild that variant first",
        )


def copy_files(folder: Path, into: Path, names: Iterable[str]) -> None:
    """Copy those of ``names`` that ``folder`` has, byte for byte."""
    for name in names:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, into / name)
