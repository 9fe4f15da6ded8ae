"""What one agent has measured of a model's matrices, another takes."""

import re
from collections.abc import Callable

import pytest

from phiforge.artifact.record import read_record, write_record
from phiforge.jobs import Place
from support.agents import SOURCE, Agent, MakeAgent, Shelf, only
from support.checkout import ROOT
from support.jobs import write_job

TINY = ROOT / "config/placements/phi3-tiny.yaml"
JOB = Place("phi3-tiny", (4.44, 5.67))
FIRST_KL = re.compile(r"sym64: [\d.e-]+")


def search(agent: Agent) -> list[str]:
    """The command of rule place."""
    source = agent.folder / "source"
    write_record(source / "SOURCE.json", SOURCE)
    return [
        "place", str(write_job(agent.folder / "jobs", JOB)), "--source", str(source),
        "--calibration", str(ROOT / "config/calibration/phi3-tiny.yaml"),
        "--golden", str(ROOT / "models/phi3-tiny/golden.yaml"),
        "--file", str(agent.folder / "placement.yaml"), "--into", str(agent.folder / "placed"),
    ]  # fmt: skip


def searched(agent: Agent, change: Callable[[str], str] = str) -> list[str]:
    """Make what the search makes; its command."""
    (agent.folder / "placement.yaml").write_text(change(TINY.read_text("utf-8")), "utf-8")
    placement = str(agent.folder / "placement.yaml")
    write_record(
        agent.folder / "placed/RECORD.json", {"model": "phi3-tiny", "placement": placement}
    )
    return search(agent)


def other_kl(text: str) -> str:
    return FIRST_KL.sub("sym64: 0.0003055", text, count=1)


def other_form(text: str) -> str:
    return text.replace("forms: [asym32, int8]", "forms: [int8, asym32]", 1)


def test_a_placement_is_taken_and_says_from_whom(make: MakeAgent) -> None:
    first = make("first")
    second = make("second", first)
    only(first.put(searched(first)), "shared: phi3-tiny")
    assert second.command(search(second)).take()
    file = second.folder / "placement.yaml"
    assert file.read_bytes() == TINY.read_bytes()
    record = read_record(second.folder / "placed/RECORD.json")
    assert record["placement"] == str(file)
    assert record["cache"]["builder"] == "urn:test:first"


@pytest.mark.parametrize(("change", "agree"), [(other_kl, True), (other_form, False)])
def test_two_measurements_agree_by_the_forms_that_they_choose(
    make: MakeAgent, change: Callable[[str], str], agree: bool
) -> None:
    """Costs differ in their last digits between processors."""
    first, twin = make("first"), make("twin")
    second = make("second", first, twin)
    first.put(searched(first))
    twin.put(searched(twin, change))
    answered = second.asked(search(second), "take", scratch=None)
    assert ("records" in answered) is agree
    if not agree:
        only(
            answered["notes"],
            "alarm: ",
            "disagreement",
            "urn:test:first (key",
            "urn:test:twin (key",
        )


def test_changed_forms_are_refused(make: MakeAgent, shelf: Shelf) -> None:
    first = make("first")
    second = make("second", first)
    first.put(searched(first))
    for name in shelf.names():
        if b"asym32" in shelf.read(name):
            shelf.write(name, other_form(shelf.read(name).decode()).encode())
    answered = second.asked(search(second), "take", scratch=None)
    assert "records" not in answered
    only(answered["notes"], "changed-file: record/placement.yaml")
