"""The names of what a payload holds: files, and the weights inside an IR.

What writes, checks, compares and releases a payload agrees on these.
"""

import re

LICENSE = "LICENSE"
TOKENIZER = "tokenizer.json"
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

OPENVINO_IR = "openvino_model.xml"
OPENVINO_WEIGHTS = "openvino_model.bin"
OPENVINO_TOKENIZER = "openvino_tokenizer.xml"
OPENVINO_DETOKENIZER = "openvino_detokenizer.xml"
TOKENIZER_IRS = (OPENVINO_TOKENIZER, OPENVINO_DETOKENIZER)
NPU_PROFILE = "npu-profile.json"

ONNX_GRAPH = "model.onnx"
ONNX_WEIGHTS = "model.onnx.data"
GENAI_CONFIG = "genai_config.json"

NPU_LIBRARY_LAYOUT = "npu-library.json"

# openvino's tracing of 16-bit models keeps the real weight of a Linear or Embedding module under
# this attribute (openvino/frontend/pytorch/patch_model.py), and names the constant after it.
_TRACED_WEIGHT = re.compile(r"self\.(?P<module>.+)\._openvino_orig_(?P<attribute>weight|bias)")


def source_weight_name(constant: str) -> str | None:
    """Return the name in the checkpoint of the weight behind an IR's constant; None: no weight.

    >>> source_weight_name("self.lm_head._openvino_orig_weight")
    'lm_head.weight'
    """
    match = _TRACED_WEIGHT.fullmatch(constant)
    return f"{match['module']}.{match['attribute']}" if match else None
