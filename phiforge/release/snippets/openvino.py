# pip install optimum-intel openvino
import openvino
from optimum.intel import OVModelForCausalLM
from transformers import AutoTokenizer

folder = "."  # this folder
device = "GPU.0"  # or "CPU"
available = openvino.Core().available_devices
if not any(name.startswith(device.split(".")[0]) for name in available):
    raise SystemExit(f"no {device} here, or no driver for it; there is {', '.join(available)}")
tokenizer = AutoTokenizer.from_pretrained(folder)
model = OVModelForCausalLM.from_pretrained(
    folder,
    device=device,
    ov_config={"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "CACHE_DIR": ""},
)
prompt = "<|user|>Can you introduce yourself?<|end|><|assistant|>"
inputs = tokenizer(prompt, return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
