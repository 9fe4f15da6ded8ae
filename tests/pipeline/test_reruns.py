"""After a finished run: nothing, or exactly what depends on a change."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.checkout import Checkout, available_variants

GENAI = {"genai-dml-fp16", "genai-dml-int4", "genai-cpu-int4", "genai-cuda-int4"}
OPENVINO = {
    "openvino-fp16",
    "openvino-int4",
    "openvino-int4-awq",
    "openvino-int8",
    "openvino-int4-npu",
    "openvino-int4-npu-cw",
}


@contextmanager
def edited(path: Path, edit: Callable[[str], str]) -> Iterator[None]:
    """Change a file of the checkout and put it back."""
    before = path.read_text(encoding="utf-8")
    after = edit(before)
    assert after != before, "the edit changed nothing"
    path.write_text(after, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def converted(jobs: set[str]) -> set[str]:
    return {job.rsplit(" ", 1)[1] for job in jobs if job.startswith("convert")}


def released(jobs: set[str]) -> set[str]:
    return {job.rsplit(" ", 1)[1] for job in jobs if job.startswith("release")}


def test_a_second_run_has_nothing_to_do(pipeline: Checkout) -> None:
    assert pipeline.planned("all") == set()


def test_an_option_reruns_its_variant_only(pipeline: Checkout) -> None:
    with edited(
        pipeline.folder / "config/variants.yaml",
        lambda text: text.replace("ratio: 0.6}", "ratio: 0.7}", 1),
    ):
        jobs = pipeline.planned("all")
    assert converted(jobs) == released(jobs) == {"openvino-int4"}
    assert not any(job.startswith(("fetch", "reference")) for job in jobs)


@pytest.mark.parametrize(("module", "variants"), [("onnx_genai", GENAI), ("openvino", OPENVINO)])
def test_a_converter_module_reruns_its_variants_only(
    pipeline: Checkout, module: str, variants: set[str]
) -> None:
    with edited(
        pipeline.folder / f"converters/{module}/__init__.py", lambda text: text + "\n# a change\n"
    ):
        jobs = pipeline.planned("all")
    assert converted(jobs) == released(jobs) == variants


@pytest.mark.parametrize(
    ("package", "variants"), [("onnxruntime-genai", GENAI), ("nncf", OPENVINO)]
)
def test_a_pinned_version_reruns_what_it_shapes_only(
    pipeline: Checkout, package: str, variants: set[str]
) -> None:
    with edited(
        pipeline.folder / "envs/main.lock",
        lambda text: re.sub(rf"(?m)^{package}==\S+", f"{package}==99.0", text),
    ):
        jobs = pipeline.planned("all")
    assert converted(jobs) == variants


def test_a_device_that_appears_reruns_its_own_checks(pipeline: Checkout) -> None:
    with edited(
        pipeline.folder / "config/devices.yaml",
        lambda text: text.replace(
            "files: [/dev/accel/accel*, /sys/class/accel/accel*/device/npu_busy_time_us]",
            "files: [/dev/null]",
        ),
    ):
        jobs = pipeline.planned("all")
    checks = {job for job in jobs if job.startswith("check")}
    on_npu = [name for name in available_variants() if "npu" in name]
    assert checks == {f"check phi3-tiny {variant} on npu" for variant in on_npu}
    assert converted(jobs) == set()


def test_a_deleted_release_is_made_again_from_what_is_there(pipeline: Checkout) -> None:
    release = pipeline.folder / "artifacts/release/phi3-tiny/openvino-int8"
    record = pipeline.folder / "artifacts/released/phi3-tiny/openvino-int8.json"
    aside, link, time_ns = (
        release.with_name(".aside"),
        record.readlink(),
        record.lstat().st_mtime_ns,
    )
    release.rename(aside)
    try:
        jobs = pipeline.planned("all")
    finally:
        aside.rename(release)
        record.symlink_to(link)
        os.utime(record, ns=(time_ns, time_ns), follow_symlinks=False)
    assert jobs == {"release phi3-tiny openvino-int8", "index phi3-tiny"}
