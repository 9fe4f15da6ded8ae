# pip install openvino-genai, of the OpenVINO release that npu-blob.json names and no other
import json
from pathlib import Path

import openvino
import openvino_genai

folder = Path()  # this folder
available = openvino.Core().available_devices
if "NPU" not in available:
    raise SystemExit(f"no NPU here, or no driver for it; there is {', '.join(available)}")
label = json.loads((folder / "npu-blob.json").read_text())
blob = {"BLOB_PATH": str(folder / label["blob"]["file"])}
if label["weightless"]:
    blob["WEIGHTS_PATH"] = str(folder / label["ir"]["bin"]["file"])
try:
    pipeline = openvino_genai.LLMPipeline(str(folder), "NPU", **blob)
except RuntimeError as error:  # another release or another NPU: compile the IR, which takes longer
    print(f"the blob does not load here: {error}")
    pipeline = openvino_genai.LLMPipeline(str(folder), "NPU", **label["pipeline_options"])
pipeline.start_chat()
print(pipeline.generate("Can you introduce yourself?", max_new_tokens=64))
pipeline.finish_chat()
