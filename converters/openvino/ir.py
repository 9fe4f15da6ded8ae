"""Read an OpenVINO IR, find its weights and name its nodes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import openvino as ov

from converters.contract import ConvertError
from phiforge.artifact.payload_files import source_weight_name

_COUNTED_NAME = re.compile(r"[A-Za-z0-9]+_\d+(\.\d+)?")


def weight_constants(model: ov.Model) -> Iterator[tuple[str, ov.Node]]:
    """Yield the name of each weight in the checkpoint, and its constant in the graph."""
    for node in model.get_ordered_ops():
        name = source_weight_name(node.get_friendly_name())
        if name is not None and node.get_type_name() == "Constant":
            yield name, node


def reader(constant: ov.Node) -> str:
    """Return the name of the operation that a weight's constant is cast for."""
    node = constant
    while node.get_type_name() in ("Constant", "Convert"):
        node = next(iter(node.output(0).get_target_inputs())).get_node()
    name: str = node.get_friendly_name()
    return name


def replace_constant(constant: ov.Node, replacement: ov.Node) -> None:
    """Make every consumer of ``constant`` read ``replacement``, which takes over its name."""
    replacement.set_friendly_name(constant.get_friendly_name())
    for consumer in constant.output(0).get_target_inputs():
        consumer.replace_source_output(replacement.output(0))


def number_nodes(model: ov.Model) -> None:
    """Rename the nodes that openvino named by a counter, such as ``Convert_33169``.

    The counter belongs to the process: it also counts the nodes of every graph that nncf compiles
    on the way, and these differ with the processor. The new numbers are places in the graph.
    """
    for place, node in enumerate(model.get_ordered_ops()):
        if _COUNTED_NAME.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{place}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Report that OpenVINO could not write ``path``, which it only calls an iostream error.

    Raises:
        ConvertError: the disk is full, or taken away.
    """
    try:
        yield
    except RuntimeError as error:
        if "iostream" not in str(error):
            raise
        raise ConvertError(
            f"OpenVINO could not write the IR ({error})",
            where=path.name,
            remedy="make room on the disk that holds artifacts/, then run again",
        ) from None


@cache
def _core() -> ov.Core:
    """One for the process: a tokenizer's operations live in the library that it loads."""
    import openvino_tokenizers  # noqa: F401  (every Core made after this knows its operations)

    return ov.Core()


def read_ir(path: Path) -> ov.Model:
    """Read an IR with its weights mapped.

    Raises:
        ConvertError: the files are missing or are no IR, whatever the tool that wrote them said.
    """
    for file in (path, path.with_suffix(".bin")):
        if not file.is_file() or not file.stat().st_size:
            raise ConvertError(
                "the IR is incomplete", where=file, expected="a file with content", found="none"
            )
    try:
        return _core().read_model(path)
    except RuntimeError as error:
        raise ConvertError(f"the IR cannot be read ({error})", where=path) from None
