"""Do a job on the device's own machine, with the standard library only.

A lab host gets this text on the standard input of ``python -`` (`phiforge.remote.protocol`) and
answers in JSON lines. A courier's kit holds it as ``run.py``. Working folder::

    store/<sha256>          files that were sent once; <sha256>.<client>.part while they come
    envs/<sha256>/          environments made from locks
    devices/<name>.lock     held while a job uses the device; the system frees it with the process
    jobs/<device>/          the job that uses it, hard links to the store
    heartbeats/<client>     touched by the client; an agent ends when its client is silent

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

GRACE_S = 120.0  # beyond the check's own time limit, which gives a receipt
_BLOCK = 1 << 20
_LOG_TAIL = 20_000
_PAYLOAD = "payload/"
# An agent that is killed takes the check, and so the runtime, with it: PR_SET_PDEATHSIG, prctl(2).
_TIE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
_TIED = (sys.executable, "-c", _TIE) if sys.platform == "linux" else ()
_REPORTING = threading.Lock()


class JobRefused(Exception):
    """The job cannot be done on this machine; says nothing about the artifact."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(what)
        self.name = name


def _report_to_client(event: str, **fields: Any) -> None:
    # A client that is gone: the heartbeat decides.
    with _REPORTING, contextlib.suppress(OSError):
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()


def report_to_person(event: str, **fields: Any) -> None:
    print(fields.get("what", event), flush=True)


class _State:
    """What this process is doing: whom it reports to, and the child to end with it."""

    report: Callable[..., None] = staticmethod(_report_to_client)
    child: "subprocess.Popen[bytes] | None" = None


def probe(
    folder: str,
    client: str,
    files: Sequence[str],
    lock: str,
    pins: Mapping[str, str],
    runner_key: str | None,
) -> None:
    """Report which of ``files`` (digests) are stored, how far others came, and the free space.

    Raises:
        JobRefused: the key that signs receipts is missing.
    """
    if runner_key is not None and not (key := _absolute(runner_key)).is_file():
        raise JobRefused("no-key", f"{key}, the key that signs receipts, is missing")
    store = Path(folder) / "store"
    store.mkdir(parents=True, exist_ok=True)
    (Path(folder) / "heartbeats").mkdir(exist_ok=True)
    parts = {name: store / f"{name}.{client}.part" for name in files}
    ready = (Path(folder) / "envs" / lock / ".complete").is_file() or _installed(pins)
    _State.report(
        "probed",
        present=[name for name in files if (store / name).is_file()],
        parts={name: part.stat().st_size for name, part in parts.items() if part.is_file()},
        free=shutil.disk_usage(store).free,
        environment=ready,
    )


def store(folder: str, client: str, files: Sequence[str]) -> None:
    """Take transferred files into the store; one with other bytes is removed.

    Raises:
        JobRefused: a file's bytes are not those of its digest.
    """
    place = Path(folder) / "store"
    for name in files:
        part = place / f"{name}.{client}.part"
        if digest_of(part) != name:
            part.unlink()
            raise JobRefused("damaged-transfer", f"{name} arrived with other bytes, was dropped")
        part.chmod(0o444)
        part.replace(place / name)
    _State.report("stored")


def run(
    folder: str,
    job: str,
    heartbeat: str,
    heartbeat_s: float,
    time_limit_s: float,
    runner_key: str | None,
) -> None:
    """Do a job whose files are stored, one at a time on a device, and report its results."""
    base = Path(folder).resolve()
    document = json.loads(job)
    beats = base / "heartbeats" / heartbeat
    threading.Thread(target=_watch, args=(beats, heartbeat_s), daemon=True).start()
    device = document["executes"]
    lock = base / "devices" / f"{device}.lock"
    with exclusive_lock(lock, f"another job uses the {device} of this host; waiting for it"):
        place = base / "jobs" / device
        _remove(place)
        _lay_out(base / "store", document["files"], place)
        (place / "JOB.json").write_text(job, encoding="utf-8", newline="\n")
        try:
            code = _run_job(base, place, document, time_limit_s, runner_key)
            results = {
                path.name: path.read_bytes().decode("utf-8")
                for path in sorted((place / "out").glob("*.json"))
            }
            log = (place / "check.log").read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace")
        finally:
            _remove(place)
    beats.unlink(missing_ok=True)
    _State.report("ended", exit=code, files=results, log=log)


def _run_job(
    base: Path,
    place: Path,
    job: Mapping[str, Any],
    time_limit_s: float,
    runner_key: str | None,
    *,
    logged: bool = True,
) -> int:
    """Run the job's module in ``place`` and return its exit code, negative for a signal."""
    log = place / "check.log" if logged else None
    python = _environment(base, place, log)
    (place / "out").mkdir(exist_ok=True)
    own = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1"}
    if runner_key is not None:
        own["PHIFORGE_RUNNER_KEY"] = str(_absolute(runner_key))
    _State.report("running", what=job["title"])
    command = [python, "-m", job["module"], *job["arguments"]]
    return _run_child(command, place / "code", own, log, time_limit_s)


def _absolute(path: str) -> Path:
    """A path of this account: relative to its home, where ssh starts a command, or with ``~``."""
    return Path(path).expanduser().absolute()


def _run_child(
    command: Sequence[str], cwd: Path, own: Mapping[str, str], log: Path | None, limit_s: float
) -> int:
    with contextlib.ExitStack() as stack:
        stream = None if log is None else stack.enter_context(log.open("ab"))
        _State.child = child = subprocess.Popen(
            [*_TIED, *command],
            cwd=cwd,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=None if stream is None else subprocess.STDOUT,
            start_new_session=sys.platform != "win32",
        )
        try:
            return child.wait(limit_s + GRACE_S)
        except subprocess.TimeoutExpired:
            raise JobRefused("time-limit", f"not done after {limit_s:.0f} s, ended") from None
        finally:
            _end_tree(child)
            _State.child = None


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


def _watch(beats: Path, silent_s: float) -> None:
    """End this process and its child when the client has been silent for too long."""
    last, since = _read(beats), time.monotonic()
    while True:
        time.sleep(min(1.0, silent_s / 4))
        now = _read(beats)
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > silent_s:
            child = _State.child
            if child is not None:
                _end_tree(child)
            beats.unlink(missing_ok=True)
            os._exit(4)


def _beat(period_s: float) -> None:
    """Report, while this process lives, that it does."""
    while True:
        time.sleep(period_s)
        _State.report("alive")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextlib.contextmanager
def exclusive_lock(
    path: Path, waiting: str, report: Callable[..., None] | None = None
) -> Iterator[None]:
    """Hold a lock on ``path`` that the system frees when this process ends; report a wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        if not _try_lock(stream):
            (report or _State.report)("waiting", what=waiting)
            while not _try_lock(stream):
                time.sleep(0.3)
        yield


def _try_lock(stream: IO[bytes]) -> bool:
    """Lock the file if no other process holds it; return whether this one does now."""
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
    """Link stored files under their names; every byte is read once more before."""
    for name, file in files.items():
        source, target = store / file["sha256"], place / name
        if digest_of(source) != file["sha256"]:
            with contextlib.suppress(OSError):
                source.chmod(0o644)
                source.unlink()
            raise JobRefused("damaged-store", f"{name} was damaged in the store and was dropped")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def digest_of(path: Path) -> str | None:
    """Return the hex SHA-256 of a file; None: there is none."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def pinned(lock: str) -> dict[str, str]:
    """Return distribution to version, of a lock file's text."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", lock, flags=re.MULTILINE))


def _installed(pins: Mapping[str, str]) -> bool:
    try:
        return all(version(name) == pin for name, pin in pins.items())
    except PackageNotFoundError:
        return False


def _environment(base: Path, place: Path, log: Path | None) -> str:
    """Return an interpreter with what ``device.lock`` pins: this one, or one of an environment."""
    lock = place / "device.lock"
    if _installed(pinned(lock.read_text(encoding="utf-8"))):
        return sys.executable
    target = base / "envs" / str(digest_of(lock))
    python = str(target / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
    waiting = "another job makes this environment; waiting for it"
    with exclusive_lock(target.with_suffix(".lock"), waiting):
        if (target / ".complete").is_file():
            return python
        _State.report("installing", what=f"making the locked environment in {target}")
        _remove(target)
        wheels = place / "wheels"
        offline = ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
        install = [python, "-m", "pip", "install", "--no-deps", "--require-hashes"]
        for command in (
            [sys.executable, "-m", "venv", str(target)],
            [*install, *offline, "-r", str(lock)],
        ):
            if _run_child(command, place, {}, log, 3600.0) != 0:
                last = _read(log).decode("utf-8", "replace").strip() if log else ""
                raise JobRefused("environment", " ".join(["pip failed:", *last.splitlines()[-3:]]))
        (target / ".complete").touch()
    return python


def main(request: str) -> None:
    """Answer one request: ``{"command": …, "alive_s": seconds between signs of life, …}``."""
    arguments = json.loads(request)
    commands: dict[str, Callable[..., None]] = {"probe": probe, "store": store, "run": run}
    command = commands[arguments.pop("command")]
    threading.Thread(target=_beat, args=(arguments.pop("alive_s"),), daemon=True).start()
    try:
        command(**arguments)
    except JobRefused as refused:
        _State.report("refused", name=refused.name, what=str(refused))
    except OSError as error:
        name = "disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "host"
        what = f"{error.filename or ''} {error.strerror or error}"
        _State.report("refused", name=name, what=what)


def run_kit(kit: Path, arguments: Sequence[str]) -> None:
    """Do the job of the kit unpacked in ``kit``; ``arguments`` may name the release folder."""
    _State.report = staticmethod(report_to_person)
    job = json.loads((kit / "JOB.json").read_text(encoding="utf-8"))
    own = ".".join(map(str, sys.version_info[:2]))
    if own != job["python"]:
        raise JobRefused("python", f"this is Python {own}, the kit needs {job['python']} (PYTHON)")
    key = os.environ.get("PHIFORGE_RUNNER_KEY")
    if not key:
        raise JobRefused("no-key", "set PHIFORGE_RUNNER_KEY to the private key of this device, "
                         "which signs its receipts; an inbox takes no other")  # fmt: skip
    for name, file in job["files"].items():
        if name.startswith(_PAYLOAD) and arguments and not (kit / name).is_file():
            (kit / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(arguments[0]) / name.removeprefix(_PAYLOAD), kit / name)
        digest = digest_of(kit / name)
        if digest is None:
            raise JobRefused("missing", f"{name} is missing; give the release folder as argument")
        if digest != file["sha256"]:
            raise JobRefused("edited", f"{name} is not the file that was packed")
    base = Path(os.environ.get("PHIFORGE_LAB", Path.home() / "phiforge-lab")).absolute()
    device = job["executes"]
    lock = base / "devices" / f"{device}.lock"
    with exclusive_lock(lock, f"another job uses the {device}; waiting"):
        _remove(kit / "out")
        code = _run_job(base, kit, job, 86400.0, key, logged=False)
    if code != 0:
        raise JobRefused("check", f"the check ended with {code}; there is nothing to carry back")
    result = kit / job["result"]
    with zipfile.ZipFile(result, "w") as archive:
        for path in sorted((kit / "out").glob("*.json")):
            archive.write(path, path.name)
    print(f"carry {result.name} back, to artifacts/inbox/", flush=True)


if __name__ == "__main__" and globals().get("__file__", "").endswith("run.py"):
    try:
        run_kit(Path(__file__).resolve().parent, sys.argv[1:])
    except (JobRefused, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
