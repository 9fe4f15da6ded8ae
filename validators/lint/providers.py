"""What an execution provider of ONNX Runtime runs of the model builder's graphs, as closed lists.

Operators are those that onnxruntime registers kernels for
(https://github.com/microsoft/onnxruntime/blob/main/docs/OperatorKernels.md, sections of the three
providers), of which only those are listed that graphs of decoders are made of. One that is missing
here is refused: a session with graph capture does not start if a node is left to the CPU, and
without it such a node is copied to and fro for every token. Extend a list only with what that page
has for the provider.

DirectML's limits are what Microsoft's DirectML did with each form, compared with float64
(benchmarks/directml_sweep/result.json; repeat it with sweep.py). It ignores a window, a rotation, a
soft cap and a smooth softmax in GroupQueryAttention, takes float16 zero points for others and adds
a skip norm's bias after the norm, all without a word; packed queries, ``g_idx``, a bias of
MatMulNBits and a K that its blocks do not divide it refuses.

Provider options: onnxruntime-genai, src/dml/session_options.cpp; those that name one machine's
adapter (``device_index``, ``luid``) do not belong into an artifact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

# The model builder writes opset 22 and IR version 10: ONNX 1.17, ONNX Runtime 1.21 and later
# (https://onnxruntime.ai/docs/reference/compatibility.html).
OPSETS: Mapping[str, int] = {"": 22, "com.microsoft": 1}
IR_VERSION = 10

_STANDARD = frozenset(
    {
        "Add", "And", "Cast", "Concat", "ConstantOfShape", "Constant", "Cos", "Div", "Equal",
        "Expand", "Gather", "GatherElements", "Gelu", "Greater", "GreaterOrEqual", "Identity",
        "Less", "LessOrEqual", "MatMul", "Max", "Min", "Mul", "Neg", "Not", "Pow", "Range",
        "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Shape", "Sigmoid",
        "SimplifiedLayerNormalization", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze",
        "Sub", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
    }
)  # fmt: skip
_FUSED = frozenset(
    {
        "FastGelu", "Gelu", "GroupQueryAttention", "MatMulNBits", "MultiHeadAttention", "QuickGelu",
        "RotaryEmbedding", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        float_type: what the model builder computes in for it, as ONNX names it.
        options: the options that an artifact may give it (genai_config.json).
        operators: by domain.
        attention_inputs: how many of GroupQueryAttention's inputs it reads; None: all.
        attention_needs: attributes of GroupQueryAttention with the only value that it honours.
        matmul_inputs: how many of MatMulNBits's inputs it reads; None: all.
        whole_blocks: MatMulNBits' K must be a multiple of its block.
        zero_points: types of zero points that it reads right, as ONNX names them.
        skip_norm_inputs: how many inputs of SkipSimplifiedLayerNormalization it reads right; None:
            all.
    """

    float_type: str
    options: frozenset[str]
    operators: Mapping[str, frozenset[str]]
    attention_inputs: int | None = None
    attention_needs: Mapping[str, float] = field(default_factory=dict)
    matmul_inputs: int | None = None
    whole_blocks: bool = False
    zero_points: frozenset[str] = frozenset({"UINT8", "FLOAT", "FLOAT16"})
    skip_norm_inputs: int | None = None


PROVIDERS: Mapping[str, Provider] = {
    "cpu": Provider(
        float_type="FLOAT",
        options=frozenset(),
        operators={
            "": _STANDARD | {"If", "LayerNormalization", "ScatterND"},
            "com.microsoft": _FUSED | {"GatherBlockQuantized"},
        },
    ),
    "cuda": Provider(
        float_type="FLOAT16",
        options=frozenset({"enable_cuda_graph"}),
        operators={
            "": _STANDARD | {"If", "LayerNormalization", "ScatterND"},
            "com.microsoft": _FUSED | {"GatherBlockQuantized"},
        },
    ),
    "dml": Provider(
        float_type="FLOAT16",
        options=frozenset({"enable_graph_capture"}),
        operators={"": _STANDARD | {"LayerNormalization", "ScatterND"}, "com.microsoft": _FUSED},
        attention_inputs=7,
        attention_needs={
            "do_rotary": 0,
            "local_window_size": -1,
            "softcap": 0.0,
            "smooth_softmax": 0,
        },
        matmul_inputs=4,
        whole_blocks=True,
        zero_points=frozenset({"UINT8"}),
        skip_norm_inputs=3,
    ),
    "webgpu": Provider(
        float_type="FLOAT16",
        options=frozenset({"enableGraphCapture", "validationMode"}),
        operators={
            "": _STANDARD | {"If", "LayerNormalization", "ScatterND"},
            "com.microsoft": _FUSED | {"GatherBlockQuantized"},
        },
    ),
}
