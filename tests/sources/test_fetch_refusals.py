"""fetch of what nobody may have, or should not have: one line of error, and no tree."""

import hashlib
import json

import pytest

from support.fetching import SHARDS, Fetch, Published, make_checkpoint
from support.hub_server import API, HubServer

BIG = SHARDS[0]


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        (API, 401, {"X-Error-Code": "GatedRepo"}),
        (API, 403, {"X-Error-Code": "GatedRepo"}),
        (BIG, 401, {"X-Error-Code": "GatedRepo"}),
        (BIG, 403, {"X-Error-Code": "GatedRepo"}),
        (API, 401, {}),
        (BIG, 403, {}),
    ],
)
def test_a_gated_model_says_what_to_do(
    fetch: Fetch,
    hub: HubServer,
    published: Published,
    target: str,
    status: int,
    code: dict[str, str],
) -> None:
    hub.fail(target, status=status, headers=code)
    line = fetch.fails(published.source, "gated", "accept the licence", "HF_TOKEN")
    assert f"{hub.address}/acme/phi" in line
    assert len(hub.asked(target)) == 1


def test_a_gate_that_closes_later_does_not_pass_what_is_there(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.succeeds(published.source, published.needed)
    hub.fail(API, status=403, headers={"X-Error-Code": "GatedRepo"})
    later = {**published.source, "revision": "0" * 40}
    fetch.refuses(later, "gated")
    fetch.holds(published.source, published.needed)


def test_an_unknown_commit_is_an_error(fetch: Fetch, hub: HubServer, published: Published) -> None:
    fetch.fails({**published.source, "revision": "0" * 40}, "no such commit", "0" * 12)


def test_an_unknown_repository_is_an_error(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.fails({**published.source, "repo": "acme/nothing"}, "no such repository", "acme/nothing")


def test_a_file_that_is_listed_but_missing_is_an_error(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    ghost = {"rfilename": "chat_template.jinja", "size": 3, "blobId": "0" * 40}
    hub.extra_siblings.append(ghost)
    fetch.fails(published.source, "chat_template.jinja", "is not there")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer"),
        ("LICENSE", "no LICENSE"),
        (BIG, f"names {BIG}, which is not there"),
        ("model.safetensors.index.json", "no model.safetensors"),
    ],
)
def test_a_commit_without_a_needed_file_is_an_error(
    fetch: Fetch, hub: HubServer, missing: str, words: str
) -> None:
    files = {name: data for name, data in make_checkpoint().items() if name != missing}
    fetch.fails(Published(hub.add(files, lfs=SHARDS)).source, words)


def test_a_pickle_checkpoint_is_refused(fetch: Fetch, hub: HubServer) -> None:
    files = {
        name: data
        for name, data in make_checkpoint().items()
        if not name.startswith("model") or name.endswith(".py")
    }
    source = Published(hub.add(files)).source
    fetch.fails(source, "pickle", "pytorch_model.bin", "safetensors")
    assert [request.target for request in hub.requests] == [API]


@pytest.mark.parametrize("name", ["../../etc/cron.d/job", "/etc/passwd", "a\\..\\b", "x\x00.json"])
def test_a_file_name_that_leaves_the_folder_is_refused(
    fetch: Fetch, hub: HubServer, published: Published, name: str
) -> None:
    hub.extra_siblings.append({"rfilename": name, "size": 3, "blobId": "0" * 40})
    fetch.fails(published.source, "file name")
    assert [request.target for request in hub.requests] == [API]


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/outside.safetensors", "w.bin"])
def test_an_index_that_names_what_it_must_not_is_refused(
    fetch: Fetch, hub: HubServer, shard: str
) -> None:
    index = json.dumps({"weight_map": {"embed": shard}}).encode()
    files = {**make_checkpoint(), "model.safetensors.index.json": index}
    fetch.fails(Published(hub.add(files, lfs=SHARDS)).source, "model.safetensors.index.json names")
    assert not list(fetch.into.parent.rglob("outside*"))


def test_a_config_that_is_no_json_is_refused_by_name(fetch: Fetch, hub: HubServer) -> None:
    files = {**make_checkpoint(), "config.json": b"<html>"}
    fetch.fails(Published(hub.add(files, lfs=SHARDS)).source, "config.json is not JSON")


def test_an_index_that_does_not_fit_its_shards_is_refused(fetch: Fetch, hub: HubServer) -> None:
    index = json.dumps({"weight_map": {"embed": BIG, "lost": SHARDS[1]}}).encode()
    files = {**make_checkpoint(), "model.safetensors.index.json": index}
    source = Published(hub.add(files, lfs=SHARDS)).source
    fetch.fails(source, f"{SHARDS[1]} holds no tensor lost")


@pytest.mark.parametrize(
    "sibling",
    [
        {"rfilename": "config.json", "size": 3},
        {"rfilename": "config.json", "size": 3, "blobId": "main"},
        {"rfilename": None, "size": 3, "blobId": "0" * 40},
        {},
    ],
)
def test_a_listing_without_checksums_is_refused(
    fetch: Fetch, hub: HubServer, published: Published, sibling: dict[str, object]
) -> None:
    hub.extra_siblings.append(sibling)
    fetch.fails(published.source, hub.address)


def test_a_listing_of_another_commit_is_refused(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    hub.overrides["sha"] = "1" * 40
    fetch.fails(published.source, "another commit", "1" * 40)


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b"[]", b"{}"])
def test_an_answer_that_no_hub_gives_is_an_error(
    fetch: Fetch, hub: HubServer, published: Published, body: bytes
) -> None:
    hub.fail(API, body=body)
    fetch.fails(published.source, "not what a Hub gives")


def test_pins_of_the_configuration_are_held(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    right = {name: hashlib.sha256(published.needed[name]).hexdigest() for name in (BIG, "LICENSE")}
    fetch.fails({**published.source, "sha256": {BIG: "0" * 64}}, BIG, "pinned", "0" * 64)
    assert not hub.asked(BIG)
    fetch.fails({**published.source, "sha256": {"LICENSE": "0" * 64}}, "LICENSE", "pinned")
    fetch.fails({**published.source, "sha256": {"other": "0" * 64}}, "other")
    fetch.succeeds({**published.source, "sha256": right}, published.needed)
    fetch.refuses({**published.source, "sha256": {**right, "LICENSE": "0" * 64}}, "LICENSE")


def test_a_disk_too_small_is_said_before_a_byte_is_fetched(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    sizes = {"rfilename": BIG, "size": 10**15, "blobId": "0" * 40}
    hub.extra_siblings.append(
        {**sizes, "lfs": {"sha256": "0" * 64, "size": 10**15, "pointerSize": 1}}
    )
    fetch.fails(published.source, "disk space", "1000000.07 GB free")
    assert not hub.asked(BIG)
    assert not hub.asked("config.json")


@pytest.mark.parametrize("token", ["hf_secret\nX-Evil: 1", "hf_sécret", "hf secret"])
def test_a_malformed_token_is_not_shown(
    fetch: Fetch, hub: HubServer, published: Published, token: str
) -> None:
    fetch.environment["HF_TOKEN"] = token
    line = fetch.fails(published.source, "HF_TOKEN")
    assert token.split()[0] not in line
    assert hub.requests == []


@pytest.mark.parametrize("endpoint", ["not-an-address", "ftp://example.invalid", "http://"])
def test_an_endpoint_that_is_no_address_is_an_error(fetch: Fetch, endpoint: str) -> None:
    fetch.environment["HF_ENDPOINT"] = endpoint
    fetch.fails({"repo": "acme/phi", "revision": "0" * 40}, "HF_ENDPOINT")


@pytest.mark.parametrize("variable", ["HF_HUB_DOWNLOAD_TIMEOUT", "PHIFORGE_RETRY_SECONDS"])
def test_a_setting_that_is_no_number_is_named(
    fetch: Fetch, hub: HubServer, published: Published, variable: str
) -> None:
    hub.fail(API, times=1, status=503)
    fetch.environment[variable] = "soon"
    fetch.fails(published.source, variable)


def test_a_hub_that_nobody_answers_for_is_an_error(fetch: Fetch, hub: HubServer) -> None:
    hub.__exit__()
    fetch.environment["HF_ENDPOINT"] = hub.address.replace("//", "//user:s3cret@")
    source = {"repo": "acme/phi", "revision": "0" * 40}
    line = fetch.fails(source, "no connection", hub.address)
    assert "s3cret" not in line


def test_a_proxy_that_cannot_be_used_is_an_error(
    fetch: Fetch, hub: HubServer, published: Published
) -> None:
    fetch.environment["ALL_PROXY"] = "socks5://user:s3cret@127.0.0.1:1"
    line = fetch.fails(published.source, "proxy")
    assert "s3cret" not in line


def test_offline_mode_asks_nobody(fetch: Fetch, hub: HubServer, published: Published) -> None:
    fetch.environment["HF_HUB_OFFLINE"] = "1"
    fetch.fails(published.source, "HF_HUB_OFFLINE")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"revision": "main"}, "revision"),
        ({"revision": "f39ac1d"}, "revision"),
        ({"repo": "../x"}, "repo"),
        ({"repo": "acme/phi--x"}, "refuses this name"),
        ({"branch": "main"}, "branch"),
    ],
)
def test_a_source_that_pins_nothing_is_refused(
    fetch: Fetch, hub: HubServer, published: Published, change: dict[str, object], words: str
) -> None:
    fetch.fails({**published.source, **change}, words)
    assert hub.requests == []
