"""Read the YAML files of the configuration; whatever is wrong with one is said in one line."""

import difflib
import re
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from phiforge.errors import PhiforgeError

if TYPE_CHECKING:
    from yaml import SafeLoader
else:
    # libyaml's parser is five times as fast; where a wheel lacks it, Python's own does.
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

NAME = "^[a-z0-9]+(-[a-z0-9]+)*$"
_NAMED_KEY = re.compile(r"(?:unknown )?key '([^']+)'")


class ConfigurationError(PhiforgeError):
    """The configuration says something that phiforge does not understand or cannot do.

    Where ``what`` begins with a key, "key 'a.b'", and ``where`` is a file that has it, the line of
    the key is named too.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, **details: Any) -> None:
        named = _NAMED_KEY.match(what)
        file, *others = str(where).split(" or ", 1)
        line = _line_of(Path(file), named[1], whole=bool(others)) if named else None
        if line is not None:
            where = " or ".join([f"{file}:{line}", *others])
        super().__init__(what, where=where, **details)


def _line_of(path: Path, key: str, *, whole: bool) -> int | None:
    """Return the line at which a YAML file has a key, or the innermost of its steps that it has.

    Args:
        key: its steps, apart by dots; a step may have dots itself.
        whole: the innermost step must be there.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    line = None
    while key:
        step, _, rest = key.partition(".")
        if isinstance(node, yaml.MappingNode):
            known = [one for one in node.value if f"{key}.".startswith(f"{one[0].value}.")]
            if not known:
                break
            name, node = max(known, key=lambda one: len(str(one[0].value)))
            line, key = name.start_mark.line + 1, key[len(name.value) + 1 :]
        elif (
            isinstance(node, yaml.SequenceNode) and step.isdecimal() and int(step) < len(node.value)
        ):
            node, key = node.value[int(step)], rest
            line = node.start_mark.line + 1
        else:
            break
    return None if key and whole else line


class _UniqueKeyLoader(SafeLoader):
    """Refuse a mapping that gives a key twice; YAML itself silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                mark = key_node.start_mark
                raise ConfigurationError(
                    f"key '{key}' is given twice",
                    where=f"{mark.name}:{mark.line + 1}",
                    remedy="keep one of the two",
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping that a YAML file holds.

    Raises:
        ConfigurationError: the file is missing, is not YAML, gives a key twice, or is no mapping.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            document = yaml.load(stream, Loader=_UniqueKeyLoader)  # a SafeLoader
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigurationError(
            "no such file" if isinstance(error, FileNotFoundError) else "this is a folder",
            where=path,
            remedy="run in the project's folder"
            if path == Path("config/config.yaml")
            else "correct the path or create the file",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"not valid YAML: {error}", where=path) from None
    if not isinstance(document, dict):
        raise ConfigurationError(
            "not a mapping", where=path, expected="key: value lines", found=type(document).__name__
        )
    return document


def read_named_blocks(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and block of a YAML file that holds one block a name.

    Raises:
        ConfigurationError: the file is not one, or a name could not stand in a path.
    """
    for name, block in read_yaml(path).items():
        if not (isinstance(name, str) and re.fullmatch(NAME, name)):
            remedy = "names are used in paths: write small letters, digits and hyphens"
            raise wrong_value(str(name), name, f"a name matching {NAME}", remedy, path)
        if not isinstance(block, dict):
            raise wrong_value(name, block, "mapping", "write key: value lines", path)
        yield name, block


def unknown_key(
    key: str, value: object, known: Iterable[str], where: str | Path
) -> ConfigurationError:
    """Return the error for a key, with dots, that is not among its block's ``known`` ones."""
    return ConfigurationError(
        f"unknown key '{key}' (value {value!r})",
        where=where,
        remedy=did_you_mean(key.rpartition(".")[2], sorted(known)),
    )


def missing_key(key: str, meaning: str, where: str | Path) -> ConfigurationError:
    """Return the error for a key that a block must have."""
    return ConfigurationError(f"key '{key}' is missing", where=where, remedy=f"add it: {meaning}")


def wrong_value(
    key: str, value: object, expected: str, meaning: str, where: str | Path
) -> ConfigurationError:
    """Return the error for a value that its key cannot have."""
    return ConfigurationError(
        f"key '{key}' has a value that is not allowed",
        where=where,
        expected=expected,
        found=repr(value),
        remedy=meaning or "correct the value",
    )


def beside(file: Path, name: str) -> Path:
    """Resolve ``name`` against the folder of ``file``, in the shortest form below this checkout."""
    path = (file.resolve().parent / Path(name).expanduser()).resolve()
    checkout = Path.cwd().resolve()
    return path.relative_to(checkout) if path.is_relative_to(checkout) else path


def did_you_mean(name: str, known: list[str]) -> str:
    """Write the remedy for a name that is not among ``known``.

    >>> did_you_mean("gruop_size", ["group_size", "ratio"])
    "write 'group_size'; known are: group_size, ratio"
    """
    close = difflib.get_close_matches(name, known, n=1)
    listed = f"known are: {', '.join(known)}" if known else "there is none; add it, or take it out"
    return f"write '{close[0]}'; {listed}" if close else listed
