# DirectML (Windows): pip install onnxruntime-genai-winml (oldest that is known to run this:
# onnxruntime-genai-directml 0.14.1)
# CUDA: pip install onnxruntime-genai-cuda; CPU: pip install onnxruntime-genai
# WebGPU: pip install onnxruntime-genai, then onnxruntime-webgpu in place of onnxruntime
import onnxruntime_genai as og

folder = "."  # this folder
try:
    model = og.Model(folder)
except Exception as error:  # the device, its driver or its package is not here
    raise SystemExit(f"it does not load here: {str(error).splitlines()[0]}") from None
tokenizer = og.Tokenizer(model)
params = og.GeneratorParams(model)
params.set_search_options(max_length=256, do_sample=False)
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode("<|user|>Can you introduce yourself?<|end|><|assistant|>"))
start = generator.token_count()
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)[start:]))
