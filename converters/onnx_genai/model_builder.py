"""The official model builder, run as a library, without what it picks up from its surroundings.

It asks ``git rev-parse HEAD`` near its install folder and stamps the answer as its own commit
into the graph's ``producer_version``: inside a virtual environment of some checkout that is the
checkout's commit. Without git's answer it takes the commit that its wheel was built from.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir
import onnxruntime_genai
import torch

from converters.contract import ConvertError
from phiforge.artifact.payload_files import GENAI_CONFIG, ONNX_GRAPH, ONNX_WEIGHTS
from phiforge.artifact.record import read_record, write_record
from phiforge.errors import PhiforgeError

PRODUCER_VERSION = f"{onnxruntime_genai.__version__}+{onnxruntime_genai.__commit__[:7]}"
"""What the builder then says of itself: its package's version and the commit that was made of."""

Quantize = Callable[[ir.Model], ir.Model]


def run_model_builder(
    source: Path,
    into: Path,
    *,
    precision: str,
    execution_provider: str,
    extra_options: Mapping[str, Any],
    configuration: Mapping[str, Any],
    quantize: Quantize | None,
) -> None:
    """Write the builder's graph, weights and ``genai_config.json`` of ``source`` into ``into``.

    The tokenizer files that it rewrites are dropped.

    Args:
        source: checkpoint folder.
        into: existing folder.
        precision: the builder's ``-p``.
        execution_provider: the builder's ``-e``.
        extra_options: the builder's ``--extra_options``.
        configuration: keys that the builder reads in ``config.json`` beside the source's.
        quantize: for a quantized ``precision``: takes the place of the builder's own pass over
            the finished float graph, which needs several times the model's memory.

    Raises:
        ConvertError: the builder refuses the model, fails, or does not write all its files.
    """
    passed = [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in extra_options.items()
    ]
    with TemporaryDirectory(dir=into, prefix=".builder.") as scratch, _closed_environment():
        from onnxruntime_genai.models import builder

        staged, out, cache = (Path(scratch, name) for name in ("source", "out", "cache"))
        _stage(source, staged, configuration)
        arguments = ("", str(staged), str(out), precision, execution_provider, str(cache))
        try:
            options = builder.parse_extra_options(*arguments, passed)
            with _quantized_by(builder.Model, quantize), _lean_torch():
                builder.create_model(*arguments, **options)
        except (PhiforgeError, OSError, MemoryError):
            raise
        except Exception as error:
            # The builder has no exceptions of its own; it raises whatever Python raises.
            raise ConvertError(
                f"the model builder failed ({type(error).__name__}: {error})",
                where=source,
                remedy="see its own messages above; it may not know this architecture",
            ) from error
        for name in (ONNX_GRAPH, ONNX_WEIGHTS, GENAI_CONFIG):
            if not (out / name).is_file():
                raise ConvertError(
                    "the model builder ended well without writing all its files",
                    expected=name,
                    found=", ".join(sorted(path.name for path in out.iterdir())),
                )
            (out / name).replace(into / name)


def _stage(source: Path, staged: Path, configuration: Mapping[str, Any]) -> None:
    """A folder that looks like ``source`` with a longer ``config.json``."""
    staged.mkdir()
    for path in source.iterdir():
        if path.name != "config.json":
            (staged / path.name).symlink_to(path.resolve())
    original = read_record(source / "config.json")
    write_record(staged / "config.json", {**original, **configuration})


@contextmanager
def _closed_environment() -> Iterator[None]:
    """No git for the builder to ask, and no progress bars in a log."""
    changes = {"GIT_DIR": os.devnull, "TQDM_DISABLE": "1"}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _lean_torch() -> Iterator[None]:
    """Neither random weights for modules that get others at once, nor threads that wait.

    The builder splits the fused matrices of Phi-3 into new `Linear` modules, and each draws random
    numbers first. Casts and transpositions are bound by memory.
    """
    threads, draw = torch.get_num_threads(), torch.nn.Linear.reset_parameters
    torch.set_num_threads(1)
    torch.nn.Linear.reset_parameters = lambda self: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.nn.Linear.reset_parameters = draw  # type: ignore[method-assign]


@contextmanager
def _quantized_by(model_class: Any, quantize: Quantize | None) -> Iterator[None]:
    """Let ``quantize`` make the graph that the builder saves, instead of its ``to_nbits``.

    The builder has no option for this; the method is its one step between graph and file.
    """
    if quantize is None:
        yield
        return
    official = model_class.to_nbits
    model_class.to_nbits = lambda self: quantize(self.model)
    try:
        yield
    finally:
        model_class.to_nbits = official
