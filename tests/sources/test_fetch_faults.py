"""fetch from a faulty Hub or in a faulty environment: the right tree, or one line of error."""

import hashlib
import json
from typing import Any

import pytest

from support.fetching import INDEX, SHARDS, Fetch, HubModel, make_checkpoint
from support.hub_history import API
from support.hub_server import HubServer

BIG = SHARDS[0]
RESUMED = [None, "bytes=100000-", "bytes=200000-"]
GATED = {"X-Error-Code": "GatedRepo"}
DAMAGED = "the bytes are damaged"

# What goes wrong at first (`support.hub_history.Fault`), the ranges that are asked for until the
# file is complete, and a word on the way.
PASSING: list[tuple[str, dict[str, Any], list[str | None], str]] = [
    (BIG, {"cut": 100_000, "times": 2}, RESUMED, "the connection was lost"),
    (BIG, {"reset": 100_000, "times": 2}, RESUMED, "the connection was lost"),
    (BIG, {"hold": 150_000, "times": 1}, [None, "bytes=150000-"], "no answer in time"),
    (BIG, {"corrupt": 5, "times": 1}, [None, None], DAMAGED),
    ("tokenizer.json", {"corrupt": 5, "times": 1}, [None, None], DAMAGED),
    (BIG, {"status": 429, "times": 3}, [None] * 4, "HTTP 429"),
    (BIG, {"status": 503, "times": 3}, [None] * 4, "HTTP 503"),
    ("config.json", {"status": 500, "times": 3}, [None] * 4, "HTTP 500"),
    ("config.json", {"status": 408, "times": 3}, [None] * 4, "HTTP 408"),
    (API, {"cut": 40, "times": 2}, [None] * 3, "the connection was lost"),
    (API, {"reset": 40, "times": 2}, [None] * 3, "the connection was lost"),
    (API, {"status": 429, "times": 3}, [None] * 4, "HTTP 429"),
    (API, {"status": 503, "times": 3}, [None] * 4, "HTTP 503"),
]

# What goes wrong every time, how often it is asked for, and the words of the error.
LASTING: list[tuple[str, dict[str, Any], int, list[str]]] = [
    (BIG, {"cut": 10_000}, 6, ["gave up after 6 attempts", "run again"]),
    (BIG, {"truncate": 0}, 6, ["gave up"]),
    (BIG, {"truncate": 100_000}, 6, ["gave up"]),
    (BIG, {"append": b"more"}, 6, ["more than"]),
    (BIG, {"corrupt": 5}, 2, ["other bytes", "sha256", "expected"]),
    ("config.json", {"corrupt": 5}, 2, ["other bytes", "git blob id", "expected"]),
    (BIG, {"status": 503}, 6, ["HTTP 503", "gave up after 6 attempts"]),
    (API, {"status": 503}, 6, ["HTTP 503", "gave up after 6 attempts"]),
    (API, {"status": 429, "headers": {"Retry-After": "7200"}}, 1, ["7200 s"]),
    (API, {"status": 401, "headers": GATED}, 1, ["gated", "accept the licence", "HF_TOKEN"]),
    (API, {"status": 403, "headers": GATED}, 1, ["gated", "accept the licence", "HF_TOKEN"]),
    (BIG, {"status": 401, "headers": GATED}, 1, ["gated", "accept the licence", "HF_TOKEN"]),
    (BIG, {"status": 403, "headers": GATED}, 1, ["gated", "accept the licence", "HF_TOKEN"]),
    (API, {"status": 401}, 1, ["gated", "accept the licence", "HF_TOKEN"]),
    (BIG, {"status": 403}, 1, ["gated", "accept the licence", "HF_TOKEN"]),
    (API, {"status": 404}, 1, ["HTTP 404"]),
    (API, {"body": b"<html>Log in</html>"}, 1, ["not what a Hub gives"]),
    (API, {"body": b"[]"}, 1, ["not what a Hub gives"]),
    (API, {"body": b"{}"}, 1, ["not what a Hub gives"]),
    (API, {"body": b'{"id":' + b"[" * 100_000}, 1, ["not what a Hub gives"]),
]


def name_of(value: object) -> str | None:
    """Name a row of a table by its target and fault."""
    if isinstance(value, dict):
        return "-".join(str(item) for item in value if item != "times")
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("target", "fault", "ranges", "word"), PASSING, ids=name_of)
def test_a_passing_fault_ends_in_the_right_tree(
    model: HubModel,
    target: str,
    fault: dict[str, Any],
    ranges: list[str | None],
    word: str,
) -> None:
    model.fetch.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
    model.hub.fail(target, **fault)
    assert word in model.succeeds()
    assert model.ranges(target) == ranges


@pytest.mark.parametrize(("target", "fault", "requests", "words"), LASTING, ids=name_of)
def test_a_lasting_fault_is_one_line_and_leaves_no_tree(
    model: HubModel,
    target: str,
    fault: dict[str, Any],
    requests: int,
    words: list[str],
) -> None:
    model.hub.fail(target, **fault)
    line = model.fails(*words)
    assert (f"{model.hub.address}/acme/phi" if target == API else target) in line
    assert len(model.hub.asked(target)) == requests


@pytest.mark.parametrize(
    ("target", "header"),
    [(API, {"Retry-After": "1"}), (BIG, {"RateLimit": '"api";r=0;t=1'})],
    ids=["Retry-After", "RateLimit"],
)
def test_the_wait_that_the_server_asks_for_is_kept(
    model: HubModel, target: str, header: dict[str, str]
) -> None:
    model.hub.fail(target, times=1, status=429, headers=header)
    model.succeeds()
    first, second = model.hub.asked(target)
    assert second.at - first.at >= 1


def test_wrong_bytes_are_not_kept(model: HubModel) -> None:
    model.hub.fail(BIG, corrupt=5)
    model.fails("other bytes")
    model.hub.heal()
    model.succeeds()
    assert model.ranges(BIG) == [None]


GHOST = {"rfilename": "chat_template.jinja", "size": 3, "blobId": "0" * 40}
HUGE = {"sha256": "0" * 64, "size": 10**15, "pointerSize": 1}


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (GHOST, ["chat_template.jinja", "does not hold it"]),
        ({"rfilename": "config.json", "size": 3}, ["config.json", "checksum"]),
        ({**GHOST, "blobId": "main"}, ["chat_template.jinja", "checksum"]),
        ({**GHOST, "blobId": "0" * 64}, ["chat_template.jinja", "checksum"]),
        ({**GHOST, "size": -1}, ["chat_template.jinja", "checksum"]),
        ({**GHOST, "rfilename": None}, ["without name"]),
        ({}, ["not what a Hub gives"]),
        ({"rfilename": BIG, "size": 10**15, "lfs": HUGE}, ["disk space", "1000000.07 GB free"]),
    ],
)
def test_a_listing_that_cannot_be_used_is_refused(
    model: HubModel,
    listed: dict[str, object],
    words: list[str],
) -> None:
    model.hub.extra_siblings.append(listed)
    model.fails(*words)
    assert not model.hub.asked(BIG)


@pytest.mark.parametrize(
    "name",
    ["../../etc/cron.d/job", "/etc/passwd", "a\\..\\b", "x\x00.json", "a/config.json", "evil.py"],
)
def test_a_file_that_does_not_belong_to_a_checkpoint_is_never_asked_for(
    model: HubModel, name: str
) -> None:
    model.hub.extra_siblings.append({**GHOST, "rfilename": name})
    model.succeeds()
    assert {request.target for request in model.hub.requests} == {API, *model.needed}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config.json": None}, ["no config.json"]),
        ({"tokenizer.json": None}, ["no tokenizer"]),
        ({"LICENSE": None}, ["no LICENSE"]),
        ({BIG: None}, [f"names {BIG}, which is missing"]),
        ({INDEX: None}, ["no model.safetensors"]),
        ({INDEX: None, **dict.fromkeys(SHARDS)}, ["pickle", "pytorch_model.bin", "safetensors"]),
        ({"config.json": b"<html>"}, ["config.json is not JSON"]),
        ({"config.json": b"[" * 100_000}, ["config.json is not JSON"]),
        ({INDEX: {"embed": "../outside.safetensors"}}, [f"{INDEX} names", "outside"]),
        ({INDEX: {"embed": "/outside.safetensors"}}, [f"{INDEX} names", "outside"]),
        ({INDEX: {"embed": "w.bin"}}, [f"{INDEX} names", "not safetensors"]),
        ({INDEX: {"embed": BIG, "lost": SHARDS[1]}}, [f"{SHARDS[1]} holds no tensor lost"]),
        ({SHARDS[1]: b"\0" * 100}, [SHARDS[1], "truncated or damaged"]),
    ],
)
def test_a_commit_that_is_no_checkpoint_is_refused(
    fetch: Fetch, hub: HubServer, change: dict[str, Any], words: list[str]
) -> None:
    files: dict[str, Any] = {**make_checkpoint(), **change}
    if isinstance(files[INDEX], dict):
        files[INDEX] = json.dumps({"weight_map": files[INDEX]}).encode()
    held = {name: data for name, data in files.items() if data is not None}
    HubModel.publish(hub, fetch, held).fails(*words)
    assert not [request for request in hub.requests if request.target.endswith(".bin")]
    assert not list(fetch.into.parent.rglob("outside*"))


@pytest.mark.parametrize(
    ("change", "words", "requests"),
    [
        ({"revision": "main"}, ["revision", "40 lower-case hex digits"], 0),
        ({"revision": "f39ac1d"}, ["revision", "40 lower-case hex digits"], 0),
        ({"repo": "../x"}, ["repo"], 0),
        ({"repo": "acme/phi--x"}, ["refuses this name"], 0),
        ({"branch": "main"}, ["branch"], 0),
        ({"repo": 3}, ["not a source"], 0),
        ({"revision": "0" * 40}, ["no such commit", "0" * 12], 1),
        ({"repo": "acme/nothing"}, ["no such repository", "acme/nothing"], 1),
    ],
)
def test_a_source_that_names_no_commit_is_refused(
    model: HubModel,
    change: dict[str, object],
    words: list[str],
    requests: int,
) -> None:
    model.fails(*words, **change)
    assert len(model.hub.requests) == requests


def test_a_listing_of_another_commit_is_refused(model: HubModel) -> None:
    model.hub.overrides["sha"] = "1" * 40
    model.fails("another commit", "1" * 40)


def test_a_failed_fetch_keeps_the_tree_of_an_earlier_commit(model: HubModel) -> None:
    model.succeeds()
    model.hub.fail(API, status=403, headers=GATED)
    model.fetch.refuses({**model.source, "revision": "0" * 40}, "gated")
    model.fetch.holds(model.source, model.needed)


def test_pins_of_the_configuration_are_checked(model: HubModel) -> None:
    right = {name: hashlib.sha256(model.needed[name]).hexdigest() for name in (BIG, "LICENSE")}
    model.fails(BIG, "pinned", "0" * 64, sha256={BIG: "0" * 64})
    assert not model.hub.asked(BIG)
    model.fails("LICENSE", "pinned", sha256={"LICENSE": "0" * 64})
    model.fails("other", sha256={"other": "0" * 64})
    model.fetch.succeeds({**model.source, "sha256": right}, model.needed)
    model.fetch.refuses({**model.source, "sha256": {**right, "LICENSE": "0" * 64}}, "LICENSE")


PROXY = "http://user:s3cret@127.0.0.1:1"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HF_TOKEN": "hf_s3cret\nX-Evil: 1"}, ["HF_TOKEN"]),
        ({"HF_TOKEN": "hf_s3crét"}, ["HF_TOKEN"]),
        ({"HF_TOKEN": "hf s3cret"}, ["HF_TOKEN"]),
        ({"HF_ENDPOINT": "hub.example"}, ["HF_ENDPOINT", "https://host", "'hub.example'"]),
        ({"HF_ENDPOINT": "ftp://u:s3cret@hub.example"}, ["HF_ENDPOINT", "'ftp://hub.example'"]),
        ({"HF_ENDPOINT": "http://"}, ["HF_ENDPOINT", "https://host"]),
        ({"HF_ENDPOINT": "http://user:s3cret@127.0.0.1:1"}, ["no connection (Connection refused)"]),
        ({"HF_ENDPOINT": "http://hub.invalid"}, ["http://hub.invalid", "no connection ("]),
        (
            {"HTTP_PROXY": PROXY},
            ["no connection through the proxy http://127.0.0.1:1 (", "refused"],
        ),
        ({"ALL_PROXY": "socks5://user:s3cret@127.0.0.1:1"}, ["proxy settings"]),
        ({"HF_HUB_OFFLINE": "1"}, ["HF_HUB_OFFLINE"]),
        ({"HF_HUB_DOWNLOAD_TIMEOUT": "soon"}, ["HF_HUB_DOWNLOAD_TIMEOUT"]),
        ({"PHIFORGE_RETRY_SECONDS": "soon"}, ["PHIFORGE_RETRY_SECONDS"]),
    ],
)
def test_an_environment_that_cannot_reach_the_hub_is_named(
    model: HubModel,
    environment: dict[str, str],
    words: list[str],
) -> None:
    model.fetch.environment |= environment
    line = model.fails(*words)
    assert "s3cr" not in line
    assert model.hub.requests == []


def test_a_hub_that_speaks_no_tls_is_named(fetch: Fetch, hub: HubServer) -> None:
    fetch.environment["HF_ENDPOINT"] = hub.address.replace("http:", "https:")
    fetch.fails({"repo": "acme/phi", "revision": "0" * 40}, "no connection (", "SSL")
