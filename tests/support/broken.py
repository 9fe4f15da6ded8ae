"""Broken artifacts: built ones, edited and sealed again so that checksums do not tell."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from benchmarks.sabotage import Sabotage, sabotaged
from support.bench import reseal
from support.checkout import ROOT
from support.jobs import SETTINGS, check_job
from validators.lint.payload import lint
from validators.reference_tree import Reference

Edit = Callable[[Path], None]
"""Breaks a payload in place."""


Built = Callable[[str], Path]


@dataclass(frozen=True)
class Broken:
    """A broken artifact, offered as ``variant``; ``make`` writes its payload."""

    variant: str
    make: Callable[[Built, Path], object]

    def made(self, built: Built, into: Path) -> Path:
        """The folder of its build."""
        self.make(built, into / "build/payload")
        return into / "build"


def weights(variant: str, sabotage: Sabotage) -> Broken:
    return Broken(variant, lambda built, payload: sabotaged(built(variant), payload, sabotage))


def files(variant: str, edit: Edit, of: str | None = None) -> Broken:
    """``edit`` of what was built as ``of``."""

    def make(built: Built, payload: Path) -> None:
        shutil.copytree(built(of or variant), payload, copy_function=shutil.copyfile)
        edit(payload)
        reseal(payload)

    return Broken(variant, make)


def nothing(payload: Path) -> None:
    pass


def replaced(name: str, old: str, new: str) -> Edit:
    """One text of a payload's file becomes another."""

    def edit(payload: Path) -> None:
        text = (payload / name).read_text(encoding="utf-8")
        assert old in text
        (payload / name).write_text(text.replace(old, new), encoding="utf-8")

    return edit


def in_detokenizer(before: bytes, after: bytes) -> Edit:
    """One string of the detokenizer's IR becomes another of its length, wherever it stands."""

    def edit(payload: Path) -> None:
        path = payload / "openvino_detokenizer.bin"
        data = path.read_bytes()
        assert before in data
        path.write_bytes(data.replace(before, after))

    return edit


def ignore_graph_mask(payload: Path) -> None:
    """What counts the tokens of a row in a GenAI graph sees no padding."""
    graph = onnx.load(payload / "model.onnx", load_external_data=False)
    nodes = graph.graph.node
    place = next(place for place, node in enumerate(nodes) if node.op_type == "ReduceSum")
    inputs = [nodes[place].input[0], "/model/constants/INT64/[1]"]
    nodes[place].input[0] = "ones"
    nodes.insert(place, onnx.helper.make_node("Max", inputs, ["ones"], "ones"))
    onnx.save(graph, payload / "model.onnx")


def linted(variant: str, payload: Path, reference: Reference) -> set[str]:
    """Name what the lint finds in a payload of phi3-tiny."""
    recipe = check_job(variant, SETTINGS.variants[variant].devices[0]).recipe
    source = ROOT / "models/phi3-tiny"
    failures = lint(payload, variant=asdict(recipe), reference=reference, source=source)
    return {failure.name for failure in failures}
