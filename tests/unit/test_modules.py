"""What Snakemake cannot see by itself: imported modules and pinned versions."""

from configuration.modules import locked_versions, module_files, pinned_toolchain


def test_module_files_follow_imports_within_the_checkout() -> None:
    files = module_files("converters.__main__")
    assert {
        "converters/__main__.py",
        "converters/contract.py",
        "records/tree.py",
        "release/manifest.py",
    } <= set(files)
    assert "validators/check.py" not in files


def test_locked_versions_are_read_from_the_lock() -> None:
    assert locked_versions()["openvino"].startswith("2026.")
    assert "torchvision" not in locked_versions()
    assert "openvino-telemetry" not in locked_versions()


def test_converters_declare_what_shapes_their_bytes() -> None:
    assert "nncf" in pinned_toolchain("converters.openvino")
    assert "onnxruntime-genai" in pinned_toolchain("converters.onnx_genai")
