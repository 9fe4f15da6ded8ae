# pip install openvino-genai
import json
from pathlib import Path

import openvino
import openvino_genai

folder = Path()  # this folder
available = openvino.Core().available_devices
if "NPU" not in available:
    raise SystemExit(f"no NPU here, or no driver for it; there is {', '.join(available)}")
profile = json.loads((folder / "npu-profile.json").read_text())
pipeline = openvino_genai.LLMPipeline(str(folder), "NPU", **profile["pipeline_options"])
pipeline.start_chat()
print(pipeline.generate("Can you introduce yourself?", max_new_tokens=64))
pipeline.finish_chat()
