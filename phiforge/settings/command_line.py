"""Give a command the pipeline's configuration: ``--configfile`` and ``--config``."""

import argparse
from pathlib import Path
from typing import Any

from phiforge.settings.documents import ConfigurationError, read_yaml
from phiforge.settings.settings import CONFIG


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add the options with which Snakemake takes a configuration."""
    options = parser.add_argument_group("configuration", "as snakemake takes it; give it last")
    options.add_argument(
        "--configfile", nargs="+", action="extend", type=Path, default=[], metavar="FILE",
        help="read these files over config/config.yaml",
    )  # fmt: skip
    options.add_argument(
        "--config", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="set these keys over all files",
    )  # fmt: skip


def configuration(arguments: argparse.Namespace) -> dict[str, Any]:
    """Merge config/config.yaml with the options of `add_configuration`, as Snakemake does.

    Raises:
        ConfigurationError: a file cannot be read, or an entry is not ``KEY=VALUE``.
    """
    merged = read_yaml(CONFIG / "config.yaml")
    if not (arguments.configfile or arguments.config):
        return merged
    # Slow to import, and only this knows how Snakemake reads a value.
    from snakemake.cli import parse_config
    from snakemake.utils import update_config

    for path in arguments.configfile:
        update_config(merged, read_yaml(path))
    try:
        update_config(merged, parse_config(arguments.config))
    except ValueError as error:
        raise ConfigurationError(str(error), where="--config", remedy="write KEY=VALUE") from None
    return merged


def split_name(name: str) -> tuple[str, str]:
    """Split ``MODEL/VARIANT``.

    Raises:
        ConfigurationError: it is not that.
    """
    model, slash, variant = name.partition("/")
    if not (model and slash and variant) or "/" in variant:
        raise ConfigurationError("not the name of a release", expected="MODEL/VARIANT", found=name)
    return model, variant
