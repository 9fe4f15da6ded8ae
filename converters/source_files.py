"""The small files of a source that a payload carries as they are: configuration and tokenizer.

Exports rewrite tokenizer files (another ``tokenizer_class``, ``is_local``); the source's own are
what the model was published with, so these are shipped.
"""

import shutil
from pathlib import Path

CONFIGURATION = ("config.json", "generation_config.json")
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)


def copy_source_files(source: Path, into: Path) -> None:
    """Copy the configuration and tokenizer files that ``source`` has, byte for byte."""
    for name in (*CONFIGURATION, *TOKENIZER_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, into / name)
