"""The device's side of a job, with the standard library only.

A lab host gets this text on the standard input of ``python -`` (`phiforge.remote.ssh`), with one
request at its end; it answers in JSON lines. A courier's kit holds it as ``run.py``.
Working folder::

    store/<sha256>          files that came here once; <sha256>.<client>.part while they come
    envs/<sha256>/          environments made from locks
    devices/<name>.lock     held while a job uses the device; the system frees it with the process
    jobs/<device>/          the job that uses it, hard links to the store
    heartbeats/<client>     touched by the client; an agent that it does not reach any more ends

Windows: written for it (paths, locks, killing a tree), never run there.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

_BLOCK = 1 << 20
_LOG_TAIL = 20_000
_GRACE_S = 120.0  # beyond the check's own time limit, which gives a receipt
_PAYLOAD = "payload/"
# An agent that is killed takes the check, and so the runtime, with it: PR_SET_PDEATHSIG, prctl(2).
_TIE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
_TIED = (sys.executable, "-c", _TIE) if sys.platform == "linux" else ()


class Refusal(Exception):
    """The job cannot be done here; says nothing about the artifact."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(what)
        self.name = name


def _tell_client(event: str, **facts: Any) -> None:
    with contextlib.suppress(OSError):  # a client that is gone: the heartbeat decides
        print(json.dumps({"event": event, **facts}), flush=True)


def _tell_person(event: str, **facts: Any) -> None:
    print(facts.get("what", event), flush=True)


class _Here:
    """What this process is doing: whom it tells, and the child to end with it."""

    tell: Callable[..., None] = staticmethod(_tell_client)
    child: "subprocess.Popen[bytes] | None" = None


def probe(
    folder: str, client: str, files: Sequence[str], lock: str, pins: Mapping[str, str]
) -> None:
    """Which of ``files`` (digests) are here, how far others came, and how much room there is."""
    store = Path(folder) / "store"
    store.mkdir(parents=True, exist_ok=True)
    (Path(folder) / "heartbeats").mkdir(exist_ok=True)
    parts = {name: store / f"{name}.{client}.part" for name in files}
    ready = (Path(folder) / "envs" / lock / ".complete").is_file() or _has(pins)
    _Here.tell(
        "probed",
        present=[name for name in files if (store / name).is_file()],
        parts={name: part.stat().st_size for name, part in parts.items() if part.is_file()},
        free=shutil.disk_usage(store).free,
        environment=ready,
    )


def adopt(folder: str, client: str, files: Sequence[str]) -> None:
    """Take what came completely into the store; bytes that are not what they should be go."""
    store = Path(folder) / "store"
    for name in files:
        part = store / f"{name}.{client}.part"
        if digest_of(part) != name:
            part.unlink()
            raise Refusal("damaged-transfer", f"{name} arrived with other bytes and was dropped")
        part.chmod(0o444)
        part.replace(store / name)
    _Here.tell("adopted")


def run(
    folder: str,
    job: str,
    heartbeat: str,
    heartbeat_s: float,
    time_limit_s: float,
    runner_key: str | None,
) -> None:
    """Do a job whose files are in the store, one at a time on a device; tell what came out."""
    base = Path(folder).resolve()
    told = json.loads(job)
    pulse = base / "heartbeats" / heartbeat
    threading.Thread(target=_watch, args=(pulse, heartbeat_s), daemon=True).start()
    device = told["executes"]
    lock = base / "devices" / f"{device}.lock"
    with _held(lock, f"another job uses the {device} of this host; waiting for it"):
        place = base / "jobs" / device
        _remove(place)
        _lay_out(base / "store", told["files"], place)
        (place / "JOB.json").write_text(job, encoding="utf-8", newline="\n")
        try:
            ended = _do(base, place, told, time_limit_s=time_limit_s, runner_key=runner_key)
            came = {
                path.name: path.read_bytes().decode("utf-8")
                for path in sorted((place / "out").glob("*.json"))
            }
            log = (place / "check.log").read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace")
        finally:
            _remove(place)
    pulse.unlink(missing_ok=True)
    _Here.tell("ended", exit=ended, files=came, log=log)


def _do(
    base: Path,
    place: Path,
    job: Mapping[str, Any],
    *,
    time_limit_s: float,
    runner_key: str | None = None,
    logged: bool = True,
) -> int:
    """Run the module of the job in ``place``; its exit code, negative for a signal."""
    python = _environment(base, place, logged)
    (place / "out").mkdir(exist_ok=True)
    own = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1"}
    if runner_key is not None:
        own["PHIFORGE_RUNNER_KEY"] = os.path.expanduser(runner_key)  # noqa: PTH111
    _Here.tell("running", what=job["title"])
    command = [python, "-m", job["module"], *job["arguments"]]
    code = place / "code"
    return _child(command, code, own, place / "check.log" if logged else None, time_limit_s)


def _child(
    command: Sequence[str], cwd: Path, own: Mapping[str, str], log: Path | None, limit_s: float
) -> int:
    with contextlib.ExitStack() as stack:
        stream = None if log is None else stack.enter_context(log.open("ab"))
        _Here.child = child = subprocess.Popen(
            [*_TIED, *command],
            cwd=cwd,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=None if stream is None else subprocess.STDOUT,
            start_new_session=sys.platform != "win32",
        )
        try:
            return child.wait(limit_s + _GRACE_S)
        except subprocess.TimeoutExpired:
            raise Refusal("time-limit", f"not done after {limit_s:.0f} s, ended") from None
        finally:
            _end_tree(child)
            _Here.child = None


def _end_tree(child: "subprocess.Popen[bytes]") -> None:
    """End the child and all that it started; nothing happens where they have ended."""
    if sys.platform == "win32":
        if child.poll() is None:
            ending = ["taskkill", "/T", "/F", "/PID", str(child.pid)]
            subprocess.run(ending, capture_output=True, check=False)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _watch(pulse: Path, silent_s: float) -> None:
    """End this process and its child when the client has been silent for too long."""
    last, since = _read(pulse), time.monotonic()
    while True:
        time.sleep(min(1.0, silent_s / 4))
        now = _read(pulse)
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > silent_s:
            child = _Here.child
            if child is not None:
                _end_tree(child)
            pulse.unlink(missing_ok=True)
            os._exit(4)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _held(path: Path, waiting: str) -> contextlib.AbstractContextManager[None]:
    return held(path, lambda: _Here.tell("waiting", what=waiting))


@contextlib.contextmanager
def held(path: Path, tell: Callable[[], None]) -> Iterator[None]:
    """An exclusive lock on ``path`` that the system frees when this process ends, however.

    Args:
        tell: called once, before this waits for another process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        if not _locked(stream):
            tell()
            while not _locked(stream):
                time.sleep(0.3)
        yield


def _locked(stream: IO[bytes]) -> bool:
    """Whether this process has the file's lock now."""
    try:
        if sys.platform == "win32":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lay_out(store: Path, files: Mapping[str, Mapping[str, Any]], place: Path) -> None:
    """Hard links from the store under their names; every byte is read once more before."""
    for name, told in files.items():
        source, target = store / told["sha256"], place / name
        if digest_of(source) != told["sha256"]:
            with contextlib.suppress(OSError):
                source.chmod(0o644)
                source.unlink()
            raise Refusal("damaged-store", f"{name} was damaged in the store and was dropped")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def digest_of(path: Path) -> str | None:
    """Hex SHA-256 of a file; None: there is none."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def pinned(lock: str) -> dict[str, str]:
    """Distribution to version, of a lock file's text."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", lock, flags=re.MULTILINE))


def _has(pins: Mapping[str, str]) -> bool:
    try:
        return all(version(name) == pin for name, pin in pins.items())
    except PackageNotFoundError:
        return False


def _environment(base: Path, place: Path, logged: bool) -> str:
    """An interpreter with what ``device.lock`` pins: this one, or one of an environment."""
    lock = place / "device.lock"
    if _has(pinned(lock.read_text(encoding="utf-8"))):
        return sys.executable
    target = base / "envs" / str(digest_of(lock))
    inside = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
    python = str(target / inside)
    with _held(target.with_suffix(".lock"), "another job makes this environment; waiting for it"):
        if (target / ".complete").is_file():
            return python
        _Here.tell("installing", what=f"making the locked environment in {target}")
        _remove(target)
        wheels = place / "wheels"
        offline = ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
        install = [python, "-m", "pip", "install", "--no-deps", "--require-hashes"]
        for command in (
            [sys.executable, "-m", "venv", str(target)],
            [*install, *offline, "-r", str(lock)],
        ):
            log = place / "check.log" if logged else None
            if _child(command, place, {}, log, 3600.0) != 0:
                last = _read(log).decode("utf-8", "replace").strip() if log else ""
                raise Refusal("environment", " ".join(["pip failed:", *last.splitlines()[-3:]]))
        (target / ".complete").touch()
    return python


def main(request: str) -> None:
    """Answer one request: ``{"command": …, arguments}``."""
    arguments = json.loads(request)
    commands: dict[str, Callable[..., None]] = {"probe": probe, "adopt": adopt, "run": run}
    command = commands[arguments.pop("command")]
    try:
        command(**arguments)
    except Refusal as refusal:
        _Here.tell("refused", name=refusal.name, what=str(refusal))
    except OSError as error:
        name = "disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "host"
        _Here.tell("refused", name=name, what=f"{error.filename or ''} {error.strerror or error}")


def run_kit(here: Path, arguments: Sequence[str]) -> int:
    """Do the job of the kit that was unpacked in ``here``; its result is put beside.

    Args:
        arguments: the release folder, where the kit holds the payload's digests only.
    """
    _Here.tell = staticmethod(_tell_person)
    job = json.loads((here / "JOB.json").read_text(encoding="utf-8"))
    own = ".".join(map(str, sys.version_info[:2]))
    if own != job["python"]:
        raise Refusal("python", f"this is Python {own}, the kit needs {job['python']} (PYTHON=…)")
    if not os.environ.get("PHIFORGE_RUNNER_KEY"):
        raise Refusal("no-key", "set PHIFORGE_RUNNER_KEY to the private key of this device, which "
                      "signs its receipts; an inbox takes no other")  # fmt: skip
    for name, told in job["files"].items():
        if name.startswith(_PAYLOAD) and arguments and not (here / name).is_file():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(arguments[0]) / name.removeprefix(_PAYLOAD), here / name)
        found = digest_of(here / name)
        if found is None:
            raise Refusal("missing", f"{name} is not here; give the release folder as argument")
        if found != told["sha256"]:
            raise Refusal("edited", f"{name} is not the file that was packed")
    base = Path(os.environ.get("PHIFORGE_LAB", Path.home() / "phiforge-lab"))
    device = job["executes"]
    with _held(base / "devices" / f"{device}.lock", f"another job uses the {device}; waiting"):
        _remove(here / "out")
        ended = _do(base, here, job, time_limit_s=86400.0, logged=False)
    if ended != 0:
        raise Refusal("check", f"the check ended with {ended}; nothing to carry back")
    result = here / job["result"]
    with zipfile.ZipFile(result, "w") as archive:
        for path in sorted((here / "out").glob("*.json")):
            archive.write(path, path.name)
    print(f"carry {result.name} back, to artifacts/inbox/", flush=True)
    return 0


if __name__ == "__main__" and globals().get("__file__", "").endswith("run.py"):
    try:
        sys.exit(run_kit(Path(__file__).resolve().parent, sys.argv[1:]))
    except (Refusal, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
