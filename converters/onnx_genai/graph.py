"""A payload's graph with its weights mapped, hard-linked or not."""

from pathlib import Path

import onnx_ir as ir

from converters.contract import ConvertError


def open_graph(path: Path) -> ir.Model:
    """The graph at ``path``; its external weights are mapped when they are used.

    onnx-ir refuses weights with more than one hard link, as a release's have, because the link
    may lead to a file that the folder should not reach
    (https://github.com/onnx/ir-py/blob/main/docs/security.md). A payload is held against its
    checksums before it is used; what is left to refuse is a weight outside its folder.

    Raises:
        ConvertError: a weight is not in a file beside the graph.
    """
    model = ir.load(path)
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if not isinstance(tensor, ir.ExternalTensor):
                continue
            location = Path(tensor.location)
            if location.name != str(location) or (path.parent / location).is_symlink():
                raise ConvertError(
                    f"the weight '{name}' is outside the payload",
                    where=path,
                    expected="a file beside the graph",
                    found=str(location),
                )
            value.const_value = ir.ExternalTensor(
                location=path.parent.resolve() / location,
                offset=tensor.offset,
                length=tensor.length,
                dtype=tensor.dtype,
                shape=tensor.shape,
                name=tensor.name,
                doc_string=tensor.doc_string,
                metadata_props=tensor.metadata_props,
                base_dir="",
            )
    return model
