# pip install optimum-intel openvino
from optimum.intel import OVModelForCausalLM
from transformers import AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = OVModelForCausalLM.from_pretrained(
    folder,
    device="GPU.0",  # or "CPU"
    ov_config={"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "CACHE_DIR": ""},
)
prompt = "<|user|>Can you introduce yourself?<|end|><|assistant|>"
inputs = tokenizer(prompt, return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
