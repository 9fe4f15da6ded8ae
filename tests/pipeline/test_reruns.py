"""After a finished run: nothing, or exactly what depends on a change."""

import os
import re

import pytest

from support.checkout import NPU_LIBRARY, Checkout, available_variants
from support.jobs import SETTINGS


def _of(*formats: str) -> set[str]:
    """Name the variants of some formats that can be built here."""
    return {name for name in available_variants() if SETTINGS.variants[name].format in formats}


GENAI = _of("onnx-genai")
OPENVINO = _of("openvino", "npu-blob")
LIBRARY = {"npu-library-int8", "npu-library-int4", "npu-library-fp16"}


def converted(jobs: set[str]) -> set[str]:
    return {job.rsplit(" ", 1)[1] for job in jobs if job.startswith("convert")}


def released(jobs: set[str]) -> set[str]:
    return {job.rsplit(" ", 1)[1] for job in jobs if job.startswith("release")}


def test_a_second_run_has_nothing_to_do(pipeline: Checkout) -> None:
    assert pipeline.planned("all") == set()


@pytest.mark.parametrize(
    ("file", "pattern", "text", "variants"),
    [
        ("config/variants.yaml", r"ratio: 0\.6}", "ratio: 0.7}", {"openvino-int4"}),
        ("converters/onnx_genai/__init__.py", r"\Z", "\n# a change\n", GENAI),
        ("converters/openvino/__init__.py", r"\Z", "\n# a change\n", OPENVINO),
        ("envs/main.lock", r"(?m)^onnxruntime-genai==\S+", "onnxruntime-genai==99.0", GENAI),
        ("envs/main.lock", r"(?m)^nncf==\S+", "nncf==99.0", OPENVINO),
        ("converters/npu_library/compilation.py", r"\Z", "\n# a change\n", LIBRARY),
        ("envs/npu-library.lock", r"(?m)^neural-compressor==\S+", "neural-compressor==9", LIBRARY),
    ],
)
def test_a_change_converts_again_what_it_shapes_only(
    pipeline: Checkout, file: str, pattern: str, text: str, variants: set[str]
) -> None:
    if variants == LIBRARY and not (NPU_LIBRARY / ".installed").is_file():
        pytest.skip("needs the environment of the NPU library: make npu-library")
    with pipeline.edited(file, lambda before: re.sub(pattern, text, before, count=1)):
        jobs = pipeline.planned("all")
    assert converted(jobs) == variants
    if not file.endswith(".lock"):
        assert released(jobs) == variants
        assert not any(job.startswith(("fetch", "reference")) for job in jobs)


def test_a_device_that_appears_reruns_its_own_checks(pipeline: Checkout) -> None:
    with pipeline.edited(
        "config/devices.yaml",
        lambda text: text.replace(
            'files: [/sys/class/accel/accel*/device/device]\n    containing: ["0x643e"]',
            "files: [/dev/null]",
        ),
    ):
        jobs = pipeline.planned("all")
    checks = {job for job in jobs if job.startswith("check")}
    rows = {name: SETTINGS.variants[name].devices for name in available_variants()}
    on_npu = [name for name in rows if "npu-4000" in rows[name]]
    assert on_npu and checks == {f"check phi3-tiny {name} on npu-4000" for name in on_npu}
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
    assert jobs == {"release phi3-tiny openvino-int8", "index phi3-tiny", "page of all models"}
