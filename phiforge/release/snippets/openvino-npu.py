# pip install openvino-genai
import json
from pathlib import Path

import openvino_genai

folder = Path()  # this folder
profile = json.loads((folder / "npu-profile.json").read_text())
pipeline = openvino_genai.LLMPipeline(str(folder), "NPU", **profile["pipeline_options"])
pipeline.start_chat()
print(pipeline.generate("Can you introduce yourself?", max_new_tokens=64))
pipeline.finish_chat()
