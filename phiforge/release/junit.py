"""Write receipts as JUnit XML, so that a CI shows a failing golden prompt as a failing test."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from phiforge.artifact.record import write_text
from phiforge.release.states import State, States

# What XML 1.0 cannot hold, not even escaped; an answer may have it.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(states: States, path: Path) -> None:
    """Write one suite a receipt: a test for each golden prompt, and one for the verdict.

    What is blocked or was left out is skipped; a job that ended in an error is an error.
    """
    suites = [_suite("jobs of models", [_error("jobs", line) for line in states.errors])]
    for variants in states.variants.values():
        for one in variants:
            suites += _suites(one)
    root = Element("testsuites", name="phiforge")
    for suite in suites:
        if len(suite):
            root.append(suite)
    for count in ("tests", "failures", "errors", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ElementTree.tostring(root, encoding="unicode")
    write_text(path, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _suites(one: State) -> Iterator[Element]:
    name = f"{one.model}/{one.variant}"
    wrong = [_error(name, line) for line in one.errors]
    if not one.receipts:
        wrong.append(_error(name, "no receipt: nothing of it was checked"))
    yield _suite(name, wrong)
    for receipt in one.receipts:
        yield _suite(f"{name}/{receipt['device']}", list(_cases(receipt)))


def _suite(name: str, cases: list[Element]) -> Element:
    suite = Element("testsuite", name=name, tests=str(len(cases)))
    for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(tag) is not None for case in cases)))
    suite.extend(cases)
    return suite


def _cases(receipt: Mapping[str, Any]) -> Iterator[Element]:
    of = f"{receipt['model']}.{receipt['variant']}.{receipt['device']}"
    prompts = {golden["id"] for golden in receipt["golden"]}
    shown: dict[str | None, list[str]] = {}
    for failure in receipt["failures"]:
        prompt = failure["prompt"] if failure["prompt"] in prompts else None
        shown.setdefault(prompt, []).append(f"{failure['name']}: {failure['what']}")
    verdict = _case(of, "verdict")
    if receipt["verdict"] == "blocked":
        _say(verdict, "skipped", f"{receipt['reason']}. {receipt['remedy']}")
    elif receipt["verdict"] == "failed":
        _say(verdict, "failure", receipt["reason"], "\n".join(shown.get(None, [])))
    yield verdict
    for golden in receipt["golden"]:
        case = _case(of, f"golden prompt {golden['id']}")
        if golden["answer"] is not None:
            case.set("time", str(golden["answer"]["total_s"]))
        if golden["passed"] is False or golden["id"] in shown:
            message = "; ".join(shown.get(golden["id"], ["another answer than expected"]))
            parts = ("prompt", "expected", "output")
            _say(case, "failure", message, "\n".join(f"{one}: {golden[one]}" for one in parts))
        elif golden["passed"] is None:
            _say(case, "skipped", golden["not_run"] or "there is nothing to compare with")
        yield case


def _error(of: str, line: str) -> Element:
    case = _case(of.replace("/", "."), "job")
    _say(case, "error", line)
    return case


def _case(of: str, name: str) -> Element:
    return Element("testcase", classname=_NO_XML.sub("\ufffd", of), name=name)


def _say(case: Element, tag: str, message: str, text: str = "") -> None:
    said = ElementTree.SubElement(case, tag, message=_NO_XML.sub("\ufffd", message))
    said.text = _NO_XML.sub("\ufffd", text) or None
