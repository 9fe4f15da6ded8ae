"""A payload's graph with its weights on the disk, hard-linked or not."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from converters.contract import ConvertError


def open_graph(path: Path) -> ir.Model:
    """The graph at ``path``; an external weight is read from its file each time it is used.

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
            value.const_value = ir.LazyTensor(
                partial(_read, path.parent / location, tensor),
                dtype=tensor.dtype,
                shape=tensor.shape,
                name=tensor.name,
                doc_string=tensor.doc_string,
                metadata_props=tensor.metadata_props,
            )
    return model


def _read(path: Path, tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    """One weight, read and not mapped: each is used once, and leaves the page cache again."""
    offset, length = tensor.offset or 0, tensor.nbytes  # a graph may leave out the length
    with path.open("rb", buffering=0) as file:
        stored: npt.NDArray[Any] = np.fromfile(file, np.uint8, length, offset=offset)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), offset, length, os.POSIX_FADV_DONTNEED)
    if stored.size != length:
        raise ConvertError(
            f"the weight '{tensor.name}' is not all there",
            where=path,
            expected=f"{length} bytes at {offset}",
            found=f"{stored.size} bytes",
            remedy="build the variant that holds it again",
        )
    if tensor.dtype.bitwidth < 8:
        return ir.PackedTensor(stored, tensor.dtype, shape=tensor.shape, name=tensor.name)
    values = stored.view(tensor.dtype.numpy()).reshape(tensor.shape.numpy())
    return ir.Tensor(values, dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
