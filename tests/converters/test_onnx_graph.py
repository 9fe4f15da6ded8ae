"""A graph's weights are read from the file beside it, all of them, and from nowhere else."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from converters.contract import ConvertError
from converters.onnx_genai.graph import open_graph

RNG = np.random.default_rng(0)
WEIGHTS: dict[str, npt.NDArray[Any]] = {
    "half": RNG.normal(size=(3, 5)).astype(np.float16),
    "single": RNG.normal(size=(2, 3, 4)).astype(np.float32),
    "codes": RNG.integers(256, size=(4, 2, 8), dtype=np.uint8),
    "positions": RNG.integers(-9, 9, size=(7,), dtype=np.int64),
    "scalar": np.array(0.1, np.float32),
    "nothing": np.zeros((0, 4), np.float32),
    "last": RNG.normal(size=(6,)).astype(np.float32),
}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph as onnx-ir writes it, with all its weights in one file."""
    folder = tmp_path / "payload"
    folder.mkdir()
    return saved(folder, *(ir.tensor(array, name=name) for name, array in WEIGHTS.items()))


def saved(folder: Path, *weights: ir.TensorProtocol) -> Path:
    initializers = [ir.Value(name=one.name, const_value=one) for one in weights]
    made = ir.Graph([], [], nodes=[], initializers=initializers, opset_imports={"": 22})
    path, data = folder / "model.onnx", "model.onnx.data"
    ir.save(ir.Model(made, ir_version=10), path, external_data=data, size_threshold_bytes=0)
    return path


def weight(graph: Path, name: str) -> ir.TensorProtocol:
    found = open_graph(graph).graph.initializers[name].const_value
    assert found is not None
    return found


@pytest.mark.parametrize("released", [False, True])
def test_weights_have_their_values_shapes_and_types(
    graph: Path, tmp_path: Path, released: bool
) -> None:
    if released:  # which is hard links of the build, and what onnx-ir by itself refuses
        os.link(graph.with_name("model.onnx.data"), tmp_path / "release")
        with pytest.raises(ValueError, match="hard links"):
            ir.load(graph).graph.initializers["half"].const_value.numpy()
    for name, expected in WEIGHTS.items():
        tensor = weight(graph, name)
        assert tensor.name == name
        assert tuple(tensor.shape) == expected.shape
        assert tensor.dtype == ir.DataType.from_numpy(expected.dtype)
        for _ in range(2):  # each use reads it again
            found = tensor.numpy()
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            assert found.tobytes() == expected.tobytes()
        assert tensor.tobytes() == expected.tobytes()


def test_weights_of_types_that_numpy_lacks_are_read(tmp_path: Path) -> None:
    arrays = {
        "nibbles": np.array([[1, -2, 3], [-8, 7, 0]]).astype(ir.DataType.INT4.numpy()),
        "odd": np.array([1, -2, 3]).astype(ir.DataType.INT4.numpy()),
        "brain": np.array([[0.5, -3.0]]).astype(ir.DataType.BFLOAT16.numpy()),
    }
    tensors = [ir.tensor(array, name=name) for name, array in arrays.items()]
    path = saved(tmp_path, *tensors)
    for expected in tensors:
        found = weight(path, expected.name)
        assert found.dtype == expected.dtype
        assert found.numpy().tolist() == expected.numpy().tolist()
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("left", "present"), [(1, 23), (24, 0), (1 << 10, 0)], ids=["one byte", "the last", "more"]
)
def test_a_file_cut_short_is_refused_by_the_weight_s_name(
    graph: Path, left: int, present: int
) -> None:
    data = graph.with_name("model.onnx.data")
    whole = data.stat().st_size
    os.truncate(data, max(0, whole - left))
    with pytest.raises(ConvertError) as refusal:
        weight(graph, "last").numpy()
    assert str(refusal.value).startswith(f"{data}: the weight 'last' is not all there; ")
    assert f"found {present} bytes" in str(refusal.value)


def test_a_graph_may_leave_out_where_a_weight_begins_and_its_length(tmp_path: Path) -> None:
    expected = WEIGHTS["half"]
    (tmp_path / "weights").write_bytes(expected.tobytes() + b"and what does not belong to it")
    assert weight(external(tmp_path, "weights"), "half").numpy().tobytes() == expected.tobytes()


def external(folder: Path, location: str) -> Path:
    """A graph whose one weight is said to be at ``location``, and nothing else is said of it."""
    tensor = TensorProto(
        name="half",
        data_type=TensorProto.FLOAT16,
        dims=WEIGHTS["half"].shape,
        data_location=TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value=location)
    made = helper.make_graph([], "graph", [], [], [tensor])
    (folder / "model.onnx").write_bytes(helper.make_model(made).SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize(
    "location",
    ["../weights", "inner/../../weights", "inner/weights", "", "{outside}/weights", "in", "out"],
)
def test_a_weight_outside_the_payload_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "payload"
    (folder / "inner").mkdir(parents=True)
    for place in (tmp_path, folder, folder / "inner"):
        (place / "weights").write_bytes(WEIGHTS["half"].tobytes())
    (folder / "in").symlink_to("weights")
    (folder / "out").symlink_to("../weights")
    with pytest.raises(ConvertError, match="the weight 'half' is outside the payload"):
        open_graph(external(folder, location.format(outside=tmp_path)))


def test_a_weight_inside_a_branch_is_held_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "payload").mkdir()
    graph = external(tmp_path / "payload", "../weights")
    model = onnx.load(graph, load_external_data=False)
    branch = helper.make_graph([], "branch", [], [], list(model.graph.initializer))
    del model.graph.initializer[:]
    model.graph.node.append(
        helper.make_node("If", ["c"], [], then_branch=branch, else_branch=branch)
    )
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(ConvertError, match="the weight 'half' is outside the payload"):
        open_graph(graph)
