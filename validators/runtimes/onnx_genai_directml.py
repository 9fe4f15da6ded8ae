"""An ONNX Runtime GenAI build on Microsoft's own DirectML, on this CPU (`make directml`).

Settings: ``job_limit_s``, in which a prompt must be answered or scored, else DirectML has hung;
``answer_tokens``, the longest answer that is asked for (`phiforge.settings.limits`): a token takes
half a second; ``earlier``, to take the last onnxruntime-genai-directml instead of today's
onnxruntime-genai-winml.

DirectML, its execution provider and GenAI are Microsoft's, from the Windows wheel that users
install; they run under wine, on libvkd3d and Mesa's software Vulkan (envs/directml). No GPU and no
driver of one is involved: whether DirectML takes the build and computes it right is seen here, how
a GPU does is not. One session answers and scores, and is profiled throughout
(`validators.ort_profile`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phiforge.artifact.lock_file import read_lock
from phiforge.checkout import ROOT
from validators.contract import (
    ExecutionEvidence,
    Generation,
    LogProbabilities,
    Runtime,
    only_known,
    shown,
)
from validators.cpu_info import cpu_info
from validators.directml_process import DirectmlProcess, words
from validators.genai_build import read_build
from validators.metrics import log_probabilities
from validators.ort_profile import executor, genai_device, proofs, read_profile

TOOLCHAIN = ("numpy", "onnx")
JOB_LIMIT_S = 900.0


def installed(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the GenAI wheel of the DirectML tree, whose lock the plan has held it to."""
    name = f"onnxruntime-genai-{'directml' if settings.get('earlier') else 'winml'}"
    return {name: read_lock(ROOT / "envs/directml.lock")[name].version}


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open the build in ``artifact``.

    Raises:
        CheckError: an unknown setting, or the process does not start.
        EnvironmentMissing: `make directml` was not run.
        ArtifactError: DirectML or GenAI refuses the build.
    """
    only_known(settings, ["job_limit_s", "answer_tokens", "earlier"], "onnx_genai_directml")
    limit_s = float(settings.get("job_limit_s", JOB_LIMIT_S))
    return _DirectmlRuntime(
        artifact, DirectmlProcess(artifact, limit_s, bool(settings.get("earlier")))
    )


class _DirectmlRuntime:
    decodes = False  # by its runner; row dml-standin decodes with the same tokenizer
    uses = ()  # each new length of a prompt is compiled for seconds; row dml-standin has them

    def __init__(self, artifact: Path, process: DirectmlProcess) -> None:
        self._build = read_build(artifact)
        self._process = process
        opened = self._process.ask("open")
        self._about = dict(line.split(" ", 1) for line in opened if line)

    def encode(self, text: str) -> list[int]:
        [ids, *_] = self._process.ask("encode", text)
        return list(words(ids))

    def decode(self, batch: Sequence[Sequence[int]]) -> list[str]:
        raise NotImplementedError

    def stream(self, token_ids: Sequence[int]) -> str:
        raise NotImplementedError

    def generate(
        self, token_ids: Sequence[int], max_new_tokens: int, *, greedy: bool = True
    ) -> Generation:
        most = min(max_new_tokens, self._build.context_length - len(token_ids))
        ids, stopped, first, last, *text = self._process.ask(
            "generate", _line(token_ids), str(most)
        )
        tokens = tuple(words(ids))
        return Generation(tokens, stopped == "1", "\n".join(text), float(first), float(last))

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        [vocabulary, *_] = self._process.ask("score", _line(token_ids), _line(positions))
        logits = np.fromfile(self._process.logits_file(), dtype="<f4")
        self._process.logits_file().unlink()
        return log_probabilities(logits.reshape(len(positions), int(vocabulary)))

    def executed_on(self) -> ExecutionEvidence:
        self._process.ask("close")
        self._process.end()
        (file,) = self._process.jobs.glob("profile*.json")
        ran = read_profile(file)
        by_profile, device_type = executor(ran), genai_device(self._about["device_type"])
        version, adapter = self._about["directml"], self._about["adapter"]
        return ExecutionEvidence(
            device=by_profile if by_profile == device_type else "unknown",
            how=f"device_type is {device_type}, the profile of the session says {by_profile}; "
            f"DirectML {version} on the software adapter {adapter}",
            proof=(
                shown("device_type of the model that ran", device_type, device_type == "DML"),
                shown("version of the DirectML.dll that was loaded", version, version[0].isdigit()),
                *proofs(ran, "DML", self._build.operators),
            ),
            details={
                "adapter": adapter,
                "software": True,
                "directml": version,
                "onnxruntime": self._about["onnxruntime"],
                "onnxruntime-genai": self._about["onnxruntime-genai"],
                "built_for": list(self._build.built_for),
                "profile": ran,
                "cpu": cpu_info(),
            },
        )


def _line(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))
