"""Keep the official libraries from phoning home or reaching for a Hub while a job works."""

import os

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DO_NOT_TRACK": "1",
    "NNCF_CI": "1",  # nncf asks for this variable; openvino-telemetry itself is not installed
    # A tokenizer's threads and a fork do not go together; and its warning is noise in a log.
    "TOKENIZERS_PARALLELISM": "false",
}


def go_offline() -> None:
    """Set the environment of this process and its children; call it before heavy imports."""
    os.environ.update(OFFLINE)
