# Windows, Python 3.10 to 3.12: pip install intel-npu-acceleration-library==1.4.0
#   transformers==5.5.4 neural-compressor==3.7.1 "setuptools<81" six
import json
from pathlib import Path

import torch
from intel_npu_acceleration_library.nn import Linear, QuantizedLinear
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = Path()  # this folder
layout = json.loads((folder / "npu-library.json").read_text())
tensors: dict[str, torch.Tensor] = {}
for file in sorted(folder.glob("*.safetensors")):
    tensors |= load_file(file)
config = AutoConfig.from_pretrained(folder)
attention = layout["attn_implementation"]
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention
    )
model.model.rotary_emb = type(model.model.rotary_emb)(config)
for name, kind in layout["modules"].items():
    parts = [tensors.pop(f"{name}.{part}", None) for part in ("weight", "scale", "bias")]
    weight, scale, bias = parts
    module = Linear(weight, bias) if kind == "Linear" else QuantizedLinear(weight, scale, bias)
    module.scale = scale  # the constructor multiplies a factor in, which is in already
    model.set_submodule(name, module)
rest = {name: tensor.float() for name, tensor in tensors.items()}
model.load_state_dict(rest, strict=False, assign=True)
model.generation_config = GenerationConfig.from_pretrained(folder)
model = model.eval()

tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer("<|user|>Can you introduce yourself?<|end|><|assistant|>", return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
