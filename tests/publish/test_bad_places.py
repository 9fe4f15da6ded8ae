"""What others wrote where releases are published: one line with its name, and the others go on."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hub_server import HubServer
from support.small_project import HUB, NAME, RELEASE, REPOSITORY, STORAGE, Project
from support.small_release import MODEL

TWO = {**STORAGE, "storage": [{"url": "other"}, *STORAGE["storage"]]}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Version 0.1.0 is in two storages, and 0.2.0 is to follow."""
    project = Project(tmp_path_factory.mktemp("published"))
    project.published(TWO, "0.1.0")
    project.run(project.release("0.2.0"))
    return project


@pytest.fixture
def project(published: Project) -> Iterator[Project]:
    """Its storages are put back."""
    kept = published.folder.with_name("kept")
    for name in ("other", "shelf", "artifacts"):
        shutil.copytree(published.folder / name, kept / name, symlinks=True)
    yield published
    for name in ("other", "shelf", "artifacts"):
        shutil.rmtree(published.folder / name)
        shutil.move(kept / name, published.folder / name)


def changed(change: Callable[[Any], object]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        pointer = json.loads(path.read_text())
        change(pointer)
        path.write_text(json.dumps(pointer))

    return spoil


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def oversized(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(20 << 30)


POINTERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (lambda path: path.write_text("<html>"), "not-json: is not JSON"),
    "nested": (lambda path: path.write_text("[" * 1_000_000), "deep-json: nested deeper"),
    "20 GiB": (oversized, "is no small file; expected a file of at most 4000000 bytes"),
    "a folder": (a_folder, "is no small file"),
    "no versions": (changed(lambda one: one.pop("versions")), "malformed: lacks 'versions'"),
    "an odd version": (changed(lambda one: one["versions"].append([])), "malformed: lacks"),
    "odd files": (
        changed(lambda one: one["versions"][0].update(files={"a": "b"})), "malformed: lacks 'size'",
    ),
    "a folder elsewhere": (
        changed(lambda one: one["versions"][0].update(folder="../../x\x1b[2J-" + "0" * 12)),
        "is no version's folder",
    ),
    "an odd latest": (changed(lambda one: one.update(latest=[1])), "its 'latest' is none of its"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), POINTERS.values(), ids=POINTERS)
def test_a_pointer_that_is_not_ours_is_one_line_and_the_other_place_is_served(
    project: Project, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(project.folder / "other" / NAME / "latest.json")
    done = project.attempt(project.publish(TWO))
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first.startswith(f"not published: other/{NAME}/latest.json: ") and message in first
    assert last.startswith("error: 1 of 1 releases were not published. Remedy: ")
    assert "\x1b" not in done.stdout + done.stderr
    assert project.on_shelf(project.folder) == "0.2.0 of 2"


def test_a_release_that_does_not_verify_keeps_no_other_back(project: Project) -> None:
    spoilt = project.folder / f"artifacts/release/{MODEL}/another"
    shutil.copytree(project.folder / RELEASE, spoilt)
    (spoilt / "extra\x1b[2J.txt").write_text("not ours")
    done = project.attempt(project.publish(STORAGE, f"{MODEL}/another", NAME))
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first.startswith(f"not published: artifacts/release/{MODEL}/another: verify refuses it")
    assert last.startswith("error: 1 of 2 releases were not published")
    assert "\x1b" not in done.stdout + done.stderr
    assert project.on_shelf(project.folder) == "0.2.0 of 2"


def test_a_folder_whose_name_moves_the_cursor_is_shown_without_it(project: Project) -> None:
    (project.folder / "shelf" / NAME / ("\x1b[2J-" + "0" * 12)).mkdir()
    done = project.attempt(project.prune(STORAGE))
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert "\ufffd[2J-000000000000 from shelf" in done.stdout


HUBS: dict[str, tuple[dict[str, bytes | None], str]] = {
    "no card": ({"README.md": None}, "README.md: the repository lacks this file"),
    "no JSON": ({"evidence/release.json": b"<html>"}, "holds no release of phiforge's"),
    "no text": ({"evidence/release.json": b"\xff\xfe"}, "holds no release of phiforge's"),
    "5 MB": ({"evidence/release.json": bytes(5_000_000)}, "is larger than 4000000 bytes"),
    "an odd list": ({"revocations.json": b"[" * 100_000}, "is no list of revocations (deep-json"),
}


@pytest.mark.parametrize(("change", "message"), HUBS.values(), ids=HUBS)
def test_a_repository_that_is_not_ours_is_one_line_each(
    tmp_path: Path, change: dict[str, bytes | None], message: str
) -> None:
    with HubServer() as server:
        own = {"HF_ENDPOINT": server.address, "HF_TOKEN": server.writer,
               "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
        project = Project(tmp_path, own)
        project.published(HUB, "0.1.0")
        project.run(project.revoke("0.1.0"))
        files = {**server.lines[REPOSITORY].head.files, **change}
        held = {name: data for name, data in files.items() if data is not None}
        server.commit(REPOSITORY, held, frozenset())
        done = project.attempt(project.publish(HUB))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[0]
