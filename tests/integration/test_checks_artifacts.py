"""Checks of real artifacts: honest ones pass, broken ones are caught by name, nothing lies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from benchmarks.sabotage import Weights, other_weights, sabotaged, swap_layers, zero_layer
from checkout import ROOT, Checkout
from configuration.documents import read_yaml
from configuration.plan import row_settings
from configuration.settings import load
from records.offline import OFFLINE
from records.record import read_record
from release.manifest import CHECKSUMS, MANIFEST, seal
from validators.golden import load_golden

SOURCE = ROOT / "models/phi3-tiny"
ASKED = ("guide-introduction", "capital", "sum")
SETTINGS = load(read_yaml(ROOT / "config/config.yaml"), ROOT / "config")


@dataclass(frozen=True)
class Bench:
    """Three golden prompts, their reference, and the command that a rule runs."""

    folder: Path
    golden: Path
    reference: Path

    def arguments(self, variant: str, row: str, artifact: Path, receipt: Path) -> list[str]:
        """The command line of a check of ``artifact`` as ``variant`` on ``row``."""
        block = SETTINGS.variants[variant]
        told = {"format": block.format, "precision": block.precision}
        return [
            "--model", "phi3-tiny", "--variant", variant, "--row", row,
            "--row-config", json.dumps(row_settings(SETTINGS.devices[row], block)),
            "--variant-config", json.dumps(told),
            "--artifact", str(artifact), "--reference", str(self.reference),
            "--golden", str(self.golden), "--acceptance", str(ROOT / "config/acceptance.yaml"),
            "--receipt", str(receipt),
        ]  # fmt: skip

    def check(
        self, variant: str, row: str, artifact: Path, *extra: str
    ) -> tuple[subprocess.CompletedProcess[str], dict[str, Any] | None]:
        """Run a check; its exit code and output, and the receipt if there is one."""
        receipt = self.folder / f"{variant}.{row}.{time.monotonic_ns()}.json"
        done = run("validators.check", *self.arguments(variant, row, artifact, receipt), *extra)
        return done, read_record(receipt) if receipt.exists() else None

    def failures(self, variant: str, row: str, artifact: Path, *extra: str) -> list[str]:
        """Names of the failures of a check that ends well."""
        done, receipt = self.check(variant, row, artifact, *extra)
        assert done.returncode == 0, done.stderr
        assert receipt is not None
        assert receipt["verdict"] == ("failed" if receipt["failures"] else "passed")
        return sorted({failure["name"] for failure in receipt["failures"]})


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **OFFLINE},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    document = yaml.safe_load((SOURCE / "golden.yaml").read_text(encoding="utf-8"))
    chosen = [prompt for prompt in document["prompts"] if prompt["id"] in ASKED]
    golden = folder / "golden.yaml"
    golden.write_text(yaml.safe_dump({"prompts": chosen}, allow_unicode=True), encoding="utf-8")
    assert len(load_golden(golden).prompts) == len(ASKED)
    reference = folder / "reference"
    done = run(
        "validators.reference",
        "--source", str(SOURCE), "--golden", str(golden), "--into", str(reference),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Bench(folder, golden, reference)


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[Path, Callable[[Weights], None]], Path]:
    """Copies a payload, breaks the copy's weights, and gives the folder of its build."""

    def make(payload: Path, sabotage: Callable[[Weights], None]) -> Path:
        return sabotaged(payload, tmp_path / "build/payload", sabotage).parent

    return make


def copied(payload: Path, into: Path) -> Path:
    """A writable copy that changes nothing, as the folder of a build."""
    target = into / "build/payload"
    target.mkdir(parents=True)
    for path in payload.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target.parent


def test_every_receipt_of_the_pipeline_says_what_really_ran(pipeline: Checkout) -> None:
    receipts = sorted(pipeline.folder.glob("artifacts/checks/phi3-tiny/*/*.json"))
    assert len(receipts) == sum(len(variant.devices) for variant in SETTINGS.variants.values())
    runtimes = set()
    for path in receipts:
        receipt = read_record(path)
        where = f"{path.parent.name} on {path.stem}: {receipt['reason']}"
        if SETTINGS.devices[path.stem].kind == "device" and path.stem != "cpu":
            assert receipt["verdict"] == "blocked", where
            continue
        runtimes.add(receipt["runtime"])
        assert receipt["verdict"] == "passed", where
        assert receipt["executed_on"]["device"] == "CPU", where
        ran = [entry for entry in receipt["golden"] if entry["not_run"] is None]
        assert len(ran) >= 12, where
        assert all(entry["passed"] for entry in ran), where
        assert all(entry["output"] == entry["expected"] for entry in ran), where
        assert set(receipt["thresholds"]) & {"mean_kl", "max_kl"}, where
    assert runtimes == {"openvino", "openvino_optimum", "openvino_npu", "onnx_genai"}


@pytest.mark.parametrize(
    ("variant", "row", "sabotage"),
    [
        ("openvino-int4", "cpu", zero_layer(3)),
        ("openvino-fp16", "cpu", swap_layers(4, 5)),
        ("genai-dml-fp16", "dml-standin", zero_layer(7)),
        ("genai-dml-int4", "dml-standin", other_weights),
    ],
    ids=["a layer zeroed", "two layers swapped", "a layer zeroed in ONNX", "another's weights"],
)
def test_a_wrong_conversion_fails_by_its_metrics(
    bench: Bench,
    built: Callable[[str], Path],
    broken: Callable[..., Path],
    variant: str,
    row: str,
    sabotage: Callable[[Weights], None],
) -> None:
    found = bench.failures(variant, row, broken(built(variant), sabotage))
    assert {"mean-kl", "max-kl"} & set(found), found


def test_nan_weights_are_named(
    bench: Bench, built: Callable[[str], Path], broken: Callable[..., Path]
) -> None:
    def poison(weights: Weights) -> None:
        scale = next(t for name, t in weights.layer(5).items() if "scale" in name)
        weights.of(scale)[:] = [0x00, 0x7E] * (scale.size // 2)  # float16 NaN

    found = bench.failures("openvino-int4", "cpu", broken(built("openvino-int4"), poison))
    assert "nan-logits" in found


def test_a_tokenizer_with_two_ids_exchanged_is_named(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    artifact = copied(built("genai-dml-int4"), tmp_path)
    path = artifact / "payload/tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    prompt = read_record(bench.reference / "REFERENCE.json")["prompts"][0]["prompt_ids"]
    first, second = [word for word, number in vocabulary.items() if number in prompt][:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    reseal(artifact / "payload")
    assert "prompt-encoding" in bench.failures("genai-dml-int4", "dml-standin", artifact)


def reseal(payload: Path) -> None:
    for name in (MANIFEST, CHECKSUMS):
        (payload / name).unlink()
    seal(payload, {}, [])


def test_a_damaged_payload_is_not_even_opened(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    artifact = copied(built("openvino-int4"), tmp_path)
    config = artifact / "payload/config.json"
    kept = config.read_bytes()

    def reason() -> str:
        done, receipt = bench.check("openvino-int4", "cpu", artifact)
        assert done.returncode == 0, done.stderr
        assert receipt is not None
        assert [failure["name"] for failure in receipt["failures"]] == ["damaged-payload"]
        assert receipt["executed_on"] is None
        return str(receipt["reason"])

    config.write_bytes(kept + b" ")
    assert "config.json: payload file changed" in reason()
    config.unlink()
    assert "config.json: payload file is missing" in reason()
    config.write_bytes(kept)
    (artifact / "payload/extra.bin").write_bytes(b"x")
    assert "extra.bin: payload file is not listed" in reason()


def test_an_artifact_that_its_runtime_refuses_fails(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    artifact = copied(built("genai-dml-int4"), tmp_path)
    weights = artifact / "payload/model.onnx.data"
    weights.write_bytes(weights.read_bytes()[:4096])
    reseal(artifact / "payload")
    assert bench.failures("genai-dml-int4", "dml-standin", artifact) == ["runtime-error"]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_runtime_that_dies_leaves_a_receipt_that_names_its_death(
    bench: Bench, built: Callable[[str], Path], number: signal.Signals, tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    with checking(bench, built("openvino-fp16").parent, receipt) as (check, worker):
        worker.send_signal(number)
        assert check.wait(60) == 0
    said = read_record(receipt)
    assert [failure["name"] for failure in said["failures"]] == ["runtime-crashed"]
    assert number.name in said["reason"]
    assert "openvino" in said["toolchain"]


def test_a_killed_check_takes_its_runtime_with_it(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    with checking(bench, built("openvino-fp16").parent, tmp_path / "receipt.json") as pair:
        check, worker = pair
        check.kill()
        check.wait(10)
        worker.wait(10)
    assert not (tmp_path / "receipt.json").exists()


class checking:
    """A running check on the row cpu, and its child once that has reported what it does."""

    def __init__(self, bench: Bench, artifact: Path, receipt: Path) -> None:
        self._arguments = bench.arguments("openvino-fp16", "cpu", artifact, receipt)

    def __enter__(self) -> tuple[subprocess.Popen[bytes], psutil.Process]:
        self._check = subprocess.Popen(
            [sys.executable, "-m", "validators.check", *self._arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self._check, next(self._worker())

    def _worker(self) -> Iterator[psutil.Process]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._check.poll() is None:
            for child in psutil.Process(self._check.pid).children():
                job = Path(child.cmdline()[-1]) if child.cmdline() else Path()
                if job.with_name("DOING").is_file():
                    yield child
            time.sleep(0.01)
        raise AssertionError("the check never opened its artifact")

    def __exit__(self, *error: object) -> None:
        self._check.kill()
        self._check.wait()


def test_a_runtime_that_hangs_is_ended(bench: Bench, built: Callable[[str], Path]) -> None:
    artifact = built("openvino-fp16").parent
    found = bench.failures("openvino-fp16", "cpu", artifact, "--time-limit-s", "0.2")
    assert found == ["runtime-timeout"]


def test_a_row_that_executes_elsewhere_than_it_says_fails(
    bench: Bench, built: Callable[[str], Path]
) -> None:
    row = json.dumps(
        row_settings(SETTINGS.devices["cuda-standin"], SETTINGS.variants["genai-cuda-int4"])
    )
    lying = row.replace('"standin"', '"device"', 1)
    artifact = built("genai-dml-int4").parent
    found = bench.failures("genai-dml-int4", "dml", artifact, "--row-config", lying)
    assert found == ["wrong-device"]


def test_a_blocked_row_loads_no_runtime(bench: Bench, built: Callable[[str], Path]) -> None:
    receipt = bench.folder / "blocked.json"
    artifact = built("openvino-int4-npu").parent
    arguments = [
        "validators.check", *bench.arguments("openvino-int4-npu", "npu", artifact, receipt),
        "--blocked", "no Intel NPU here", "--remedy", "run it where one is",
    ]  # fmt: skip
    code = (
        f"import sys; sys.argv = {arguments!r}; import validators.check as check; check.main(); "
        "print(*sorted(set(sys.modules) & {'torch', 'transformers', 'openvino', "
        "'openvino_genai', 'onnxruntime', 'onnxruntime_genai', 'onnx', 'optimum', 'nncf'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1:] == [""]
    said = read_record(receipt)
    assert (said["verdict"], said["reason"]) == ("blocked", "no Intel NPU here")
    assert said["artifact_sha256"] == read_record(artifact / "BUILD.json")["artifact_sha256"]


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        (["--row-config", '{"kind": "device", "standin_for": null, "module": "openvino", '
          '"settings": {"devise": "CPU"}}'], "unknown setting 'devise'"),
        (["--row-config", '{"kind": "device", "standin_for": null, "module": "absent", '
          '"settings": {}}'], "runtime 'absent' cannot be imported"),
        (["--row-config", '{"kind": "device", "standin_for": null, "module": "openvino_npu", '
          '"settings": {"npuw_devices": "NPU,CPU"}}'], "would hide which device ran"),
        (["--synthetic"], "disagree on --synthetic"),
        (["--golden", str(ROOT / "config/golden/phi-3.yaml")], "answered other golden prompts"),
    ],
    ids=["setting", "runtime", "fall-back", "synthetic", "golden"],
)  # fmt: skip
def test_where_no_verdict_can_be_given_there_is_no_receipt(
    bench: Bench, built: Callable[[str], Path], extra: list[str], line: str
) -> None:
    done, receipt = bench.check("openvino-int4", "cpu", built("openvino-int4").parent, *extra)
    assert done.returncode != 0
    assert receipt is None
    assert line in done.stderr
    assert "Traceback" not in done.stderr
