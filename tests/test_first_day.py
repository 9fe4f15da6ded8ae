"""What goes wrong on a first day: each mistake is one line with file, key, value and remedy.

Through the commands that a user types. The exit code is not 0, and nothing is left behind.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.checkout import ROOT, Checkout, make_checkout
from support.hub_history import API
from support.hub_server import HubServer
from support.model_files import model_file
from support.small_disk import small_disk

REVISION = "0" * 40
PLAN = ("snakemake", "-n", "all")
FETCH = ("snakemake", "--cores", "1", "artifacts/source/outside/SOURCE.json", "--config",
         "model_files=model.yaml", "models=outside")  # fmt: skip
# As an account without root's right to write everywhere; its files stay its own.
PLAIN = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")


@dataclass
class Desk:
    """A fresh checkout that one mistake is made in."""

    checkout: Checkout
    outside: Path
    stack: ExitStack
    environment: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    before: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.checkout.folder

    def replace(self, file: str, old: str, new: str) -> None:
        self.stack.enter_context(self.checkout.edited(file, lambda text: text.replace(old, new, 1)))

    def append(self, file: str, text: str) -> None:
        self.stack.enter_context(self.checkout.edited(file, lambda before: before + text))

    def model(self, **changes: object) -> None:
        """A model file beside the project; its source is a Hub that is not there."""
        hub = {"repo": "acme/phi", "revision": REVISION}
        golden = str(ROOT / "models/phi3-tiny/golden.yaml")
        path = model_file(self.folder, "outside", **{"source": hub, "golden": golden, **changes})
        self.stack.callback(path.unlink)
        self.environment.setdefault("PHIFORGE_RETRY_SECONDS", "0")

    def hub(self, **fault: object) -> None:
        """A model on a Hub that is there and does not what it should."""
        server = self.stack.enter_context(HubServer())
        commit = server.commit("acme/phi", {"config.json": b"{}"}, frozenset())
        server.fail(API, **fault)
        self.environment["HF_ENDPOINT"] = server.address
        self.model(source={"repo": "acme/phi", "revision": commit.revision})

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).parent / "snakemake")
        named = {"snakemake": (program,), "phiforge": (sys.executable, "-m", "phiforge")}
        given = {"PYTHONPATH": str(self.folder), **self.environment}
        plain = {name: value for name, value in os.environ.items()
                 if not name.startswith(("HF_", "PHIFORGE_", "PYTEST_"))}  # fmt: skip
        return subprocess.run(
            [*self.before, *named[command[0]], *command[1:]],
            cwd=self.cwd or self.folder,
            env=plain | given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


Spoil = Callable[[Desk], object]
Mistake = tuple[Spoil, tuple[str, ...], str]


def edit(file: str, old: str, new: str) -> Spoil:
    return lambda desk: desk.replace(file, old, new)


def add(file: str, text: str) -> Spoil:
    return lambda desk: desk.append(file, text)


def nothing(desk: Desk) -> None:
    """The mistake is in the command."""


def config(*words: str) -> tuple[str, ...]:
    return (*PLAN, "--config", *words)


def variables(**given: str) -> Spoil:
    return lambda desk: desk.environment.update(given)


def network(**given: str) -> Spoil:
    """A model on a Hub, and an environment in which it cannot be reached."""

    def spoil(desk: Desk) -> None:
        desk.model()
        desk.environment.update(given)

    return spoil


def hub(environment: dict[str, str], **fault: object) -> Spoil:
    def spoil(desk: Desk) -> None:
        desk.hub(**fault)
        desk.environment.update(environment)

    return spoil


def local(spoil: Callable[[Path], object]) -> Spoil:
    """A model whose weights are in a folder, which was spoilt."""

    def spoil_it(desk: Desk) -> None:
        weights = desk.outside / "weights"
        shutil.copytree(ROOT / "models/phi3-tiny", weights)
        desk.model(source={"path": str(weights), "checksums": "SHA256SUMS"})
        spoil(weights)

    return spoil_it


def no_space(desk: Desk) -> None:
    desk.model(source={"path": str(ROOT / "models/phi3-tiny"), "checksums": "SHA256SUMS"})
    desk.stack.enter_context(small_disk(desk.folder / "artifacts/source", 1))


def read_only_disk(desk: Desk) -> None:
    desk.model()
    desk.stack.enter_context(small_disk(desk.folder / "artifacts/kits", 1))
    remount = ["mount", "-o", "remount,ro", str(desk.folder / "artifacts/kits")]
    subprocess.run(remount, check=True)


def no_permission(desk: Desk) -> None:
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, to be an account without root's rights")
        desk.before = PLAIN
    desk.model()
    artifacts = desk.folder / "artifacts"
    artifacts.chmod(0o555)
    desk.stack.callback(artifacts.chmod, 0o755)


def a_file_for_a_folder(desk: Desk) -> None:
    desk.model()
    source = desk.folder / "artifacts/source"
    source.write_text("")
    desk.stack.callback(source.unlink)


def elsewhere(desk: Desk) -> None:
    desk.cwd = desk.outside


MISTAKES: dict[str, Mistake] = {
    # Typos, in each file
    "a key of config.yaml": (
        edit("config/config.yaml", "models: [", "modles: ["), PLAN,
        r"config/config\.yaml:4 or --config: unknown key 'modles' \(value \['phi3-tiny'\]\)\. "
        r"Remedy: write 'models'",
    ),
    "a key of a model": (
        edit("config/models/phi3-tiny.yaml", "license:", "licence:"), PLAN,
        r"config/models/phi3-tiny\.yaml:\d+: unknown key 'licence' .*Remedy: write 'license'",
    ),
    "a key of variants.yaml": (
        edit("config/variants.yaml", "group_size:", "gruop_size:"), PLAN,
        r"config/variants\.yaml:\d+: unknown key '.*gruop_size' .*Remedy: write 'group_size'",
    ),
    "a key of devices.yaml": (
        edit("config/devices.yaml", "runtimes:", "runtiems:"), PLAN,
        r"config/devices\.yaml:\d+: unknown key 'cpu\.runtiems' .*Remedy: write 'runtimes'",
    ),
    "a key of hardware.yaml": (
        edit("config/hardware.yaml", "choose:", "chose:"), PLAN,
        r"config/hardware\.yaml:\d+: unknown key '.*chose' .*Remedy: write 'choose'",
    ),
    "a key of acceptance.yaml": (
        edit("config/acceptance.yaml", "gate:", "gaet:"), PLAN,
        r"config/acceptance\.yaml:\d+: unknown key '.*gaet' .*Remedy: write 'gate'",
    ),
    "a key of golden prompts": (
        edit("models/phi3-tiny/golden.yaml", "max_new_tokens:", "max_new_token:"), PLAN,
        r"models/phi3-tiny/golden\.yaml:\d+: unknown key 'prompts\.0\.max_new_token' .*"
        r"Remedy: write 'max_new_tokens'",
    ),
    "a name on the command line": (
        nothing, config("variants=openvino-int3"),
        r"--config: key 'variants' names 'openvino-int3', which is not configured\. "
        r"Remedy: write 'openvino-int",
    ),
    # No YAML, and YAML that means something else
    "an unclosed bracket": (
        add("config/config.yaml", "publish: {hub: [x\n"), PLAN,
        r"config/config\.yaml: not valid YAML: .* line \d+, column \d+",
    ),
    "a key given twice": (
        add("config/config.yaml", "models: [phi3-tiny]\n"), PLAN,
        r"config/config\.yaml:\d+: key 'models' is given twice\. Remedy: keep one",
    ),
    # Wrong types and values
    "text for a number": (
        nothing, config("score_positions=many"),
        r"key 'score_positions' has a value that is not allowed; expected integer, at least 16, "
        r"at most 65536, found 'many'\. Remedy: positions per model",
    ),
    "stable, which is not built": (
        edit("config/config.yaml", "channel: candidate", "channel: stable"), PLAN,
        r"config/config\.yaml:\d+ or --config: key 'channel' .*found 'stable'.*docs/receipts\.md",
    ),
    "a branch for a commit": (
        edit("config/models/phi-3-mini-4k.yaml", "revision: ", "revision: main #"), PLAN,
        r"phi-3-mini-4k\.yaml:\d+: key 'source\.revision' .*found 'main'\. Remedy: the full commit",
    ),
    "a version that is none": (
        nothing, config("version=v1"), r"key 'version' has a value .*found 'v1'\. Remedy: semantic",
    ),
    # Missing files, empty variables, a folder for a file
    "an unset variable for variants": (
        nothing, config("variants="), r"key 'variants' .*not empty, found None\. Remedy: names of",
    ),
    "an unset variable for models": (
        nothing, config("models="), r"key 'models' .*not empty, found None\. Remedy: names of",
    ),
    "golden prompts that are not there": (
        edit("config/models/phi3-tiny.yaml", "golden.yaml", "goldn.yaml"), PLAN,
        r"phi3-tiny\.yaml:\d+: key 'golden' names '.*goldn\.yaml', and .* is not there\. Remedy: ",
    ),
    "a model file in the home folder": (
        nothing, config("model_files=~/no-such-model.yaml"),
        r"/.*/no-such-model\.yaml: no such file\. Remedy: correct the path or create the file",
    ),
    "a folder without model files": (
        nothing, config("model_files=docs"),
        r"key 'model_files' names 'docs', where there is no model file; expected a YAML file, a f",
    ),
    "a pattern of no model file": (
        nothing, config("model_files=~/models/*.yaml"),
        r"key 'model_files' names '/.*/models/\*\.yaml', where there is no model file; expected a",
    ),
    "a pattern of no model": (
        nothing, config("models=acme-*"), r"key 'models' names 'acme-\*', which is not configured",
    ),
    "a lab's file that is not there": (
        nothing, config("device_files=lab.yaml"), r"lab\.yaml: no such file\. Remedy: correct",
    ),
    "a release key that is not there": (
        nothing, config("signing={key: ~/no-such.pem}"),
        r"key 'signing\.key' names /.*/no-such\.pem, which is not a file\. Remedy: correct the",
    ),
    "a variable that names no key": (
        variables(PHIFORGE_SIGNING_KEY="/no/such.pem"), ("snakemake", "--cores", "1", "all"),
        r"PHIFORGE_SIGNING_KEY: this variable names no file; expected a private key, found "
        r"/no/such\.pem\. Remedy: correct it",
    ),
    "nowhere to publish to": (
        nothing, ("snakemake", "--cores", "1", "publish"),
        r"config/config\.yaml: publish: there is nowhere to publish to\. Remedy: name a hub",
    ),
    "another working folder": (
        elsewhere, ("phiforge", "status"),
        r"config/config\.yaml: no such file\. Remedy: run in the project's folder",
    ),
    "another working folder for snakemake": (
        elsewhere, ("snakemake", "-s", "{folder}/Snakefile", "-n"),
        r"config/config\.yaml: no such file\. Remedy: run in the project's folder",
    ),
    # Disk and rights
    "no space": (
        no_space, FETCH,
        r"artifacts/source/.*: not enough disk space; expected [\d.]+ GB free, found 0\.00 GB\. "
        r"Remedy: free space",
    ),
    "no permission": (
        no_permission, FETCH,
        r"/.*/artifacts: no job can write here\. Remedy: let the account that runs snakemake",
    ),
    "a read-only disk for artifacts": (
        read_only_disk, FETCH,
        r"/.*/artifacts/kits: no job can write here\. Remedy: .*on a disk that is mounted writable",
    ),
    "a file for a folder": (
        a_file_for_a_folder, FETCH,
        r"/.*/artifacts/source: this is not a folder\. Remedy: .*move what is there away",
    ),
    "too little memory": (
        lambda desk: desk.model(
            parameters=10**14,
            source={"path": str(ROOT / "models/phi3-tiny"), "checksums": "SHA256SUMS"},
        ),
        ("snakemake", "--cores", "1", "artifacts/build/outside/openvino-fp16/BUILD.json",
         "--config", "model_files=model.yaml", "models=outside", "variants=openvino-fp16"),
        r"converting outside to openvino-fp16 does not fit this machine; expected \d+ MB of memory,"
        r" found \d+ MB\. Remedy: run it on a larger machine",
    ),
    # No network, in its forms
    "no such host": (
        network(HF_ENDPOINT="http://hub.invalid"), FETCH,
        r"http://hub\.invalid/acme/phi at 0+: no connection \(.*\); gave up after 6 attempts\. "
        r"Remedy: look whether this machine has a network that knows the name .*what is complete",
    ),
    "nobody listens": (
        network(HF_ENDPOINT="http://127.0.0.1:1"), FETCH,
        r"no connection \(Connection refused\).*Remedy: look whether anything answers at that",
    ),
    "a proxy that is down": (
        network(HF_ENDPOINT="http://hub.example", HTTP_PROXY="http://me:s3cret@127.0.0.1:1"), FETCH,
        r"no connection through the proxy http://127\.0\.0\.1:1 \(.*Remedy: look whether that proxy"
        r" answers, or unset it",
    ),
    "a server that is silent": (
        hub({"HF_HUB_DOWNLOAD_TIMEOUT": "1"}, hold=0), FETCH,
        r"no answer in time.*Remedy: look whether a firewall or a missing proxy",
    ),
    "a login page": (
        hub({}, body=b"<html>Log in</html>"), FETCH,
        r"the answer is not what a Hub gives\. Remedy: check .* shows no login page",
    ),
    "an address without its scheme": (
        network(HF_ENDPOINT="hub.example"), FETCH,
        r"HF_ENDPOINT: not the address of a Hub; expected http://host or https://host, found "
        r"'hub\.example'",
    ),
    "a wrong token": (
        hub({"HF_TOKEN": "hf_s3cret"}, status=401), FETCH,
        r"no .*with the token in HF_TOKEN.*\(HTTP 401\)\. Remedy: .*HF_TOKEN",
    ),
    # A model in a folder
    "weights that changed": (
        local(lambda weights: (weights / "config.json").write_text("{}")), FETCH,
        r"/.*/weights: config\.json is not the file that SHA256SUMS records; expected [0-9a-f]{64},"
        r" found [0-9a-f]{64}\. Remedy: restore the file",
    ),
    "no checksums": (
        local(lambda weights: (weights / "SHA256SUMS").unlink()), FETCH,
        r"/.*/weights: the checksums file is missing\. Remedy: sha256sum \* > SHA256SUMS makes one",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which nothing was made."""
    return make_checkout(tmp_path_factory.mktemp("first day") / "phiforge")


@pytest.fixture
def desk(fresh: Checkout, tmp_path: Path) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(fresh, tmp_path, stack)
    for made in (fresh.folder / ".snakemake", *(fresh.folder / "artifacts").glob("*/")):
        shutil.rmtree(made, ignore_errors=True)


def left_behind(desk: Desk) -> set[str]:
    """Files of the project but records of runs: logs, jobs and what Snakemake keeps."""
    found = {path.relative_to(desk.folder).as_posix() for path in desk.folder.rglob("*")}
    ours = (".git/", ".snakemake", "artifacts/logs", "artifacts/jobs", "artifacts/benchmarks")
    return {name for name in found if not name.startswith(ours) and "__pycache__" not in name}


@pytest.mark.parametrize(("spoil", "command", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_with_its_remedy(
    desk: Desk, spoil: Spoil, command: tuple[str, ...], line: str
) -> None:
    spoil(desk)
    before = left_behind(desk)
    done = desk.run(*(word.replace("{folder}", str(desk.folder)) for word in command))
    told = done.stdout + done.stderr
    assert done.returncode != 0, told
    assert "Traceback" not in told and "s3cret" not in told
    errors = {one.removeprefix("    ") for one in told.splitlines() if "error: " in one}
    folded = " ".join(told.split())  # the table at a run's end is 80 columns wide
    assert len({one for one in errors if one.startswith("error: ")}) <= 1, errors
    assert re.search(line, folded), told[-3000:]
    made = left_behind(desk) - before - {"artifacts/released", "artifacts/indexed"}
    source = {name for name in made if name.startswith("artifacts/source")}
    assert made == source
    if command == FETCH:
        assert not [one for one in source if one.endswith((".partial", ".json")) or "files/" in one]
