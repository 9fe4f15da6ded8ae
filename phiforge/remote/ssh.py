"""A job on a device-lab host: asyncssh, a pinned host key, SFTP, code on standard input.

What the far side needs is an OpenSSH server with SFTP, a key that opens the account, and
Python 3.11; the command is ``<python> -`` and nothing else, so no shell's quoting matters.
Files are kept there by digest (`phiforge.remote.agent`); what is there is not sent again, and a
transfer that was cut goes on where it stopped.
"""

import asyncio
import hashlib
import json
import logging
import signal
import uuid
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

from phiforge.artifact.file_lock import file_lock
from phiforge.remote import RunnerError
from phiforge.remote.agent import pinned
from phiforge.remote.kit import PYTHON, Kit, KitFile, job_bytes
from phiforge.remote.lab_errors import by_name, ended_early
from phiforge.remote.receipts import accept
from phiforge.settings.devices import LabHost

_CHUNK = 1 << 20
_ROOM = 16 << 20  # bytes that stay free on the host
_ENVIRONMENT = 1 << 30  # bytes that making an environment takes, wheels included
_CONNECT_S = 20.0
_REMOTE = Path(__file__).with_name("agent.py")
_LOCKS = Path("artifacts/.lab")


def check_over_ssh(kit: Kit, host: LabHost, *, key: Path | None, into: Path) -> None:
    """Let ``host`` do the job of ``kit`` and write the receipt that comes back.

    Raises:
        RunnerError: by name: ``unreachable``, ``host-key``, ``wrong-key``, ``identity``,
            ``connection-cut``, ``python-missing``, ``python-version``, ``disk-full``,
            ``transfer``, ``killed``, ``time-limit``, ``check-failed``, ``no-receipt``, or what
            `phiforge.remote.receipts.accept` refuses. There is no receipt then.
    """
    row = str(kit.expects["device"])
    # After a cut asyncio reports every block of asyncssh's that was still to be written.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    ended = asyncio.run(_session(kit, host))
    print(ended["log"], end="")
    if ended["exit"] != 0:
        code = ended["exit"]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        last = (ended["log"].strip().splitlines() or [""])[-1]
        raise RunnerError(
            "check-failed",
            f"the check there ended with {how}: {last}",
            where=host.host,
            remedy="read the lines above this one in the log, then run again",
        )
    files = ended["files"]
    if f"{row}.json" not in files:
        raise RunnerError(
            "no-receipt",
            "the check ended well, and no receipt came back",
            where=host.host,
            remedy="run again; if it stays so, report a defect of phiforge",
        )
    envelope = files.get(f"{row}.dsse.json")
    verdict = accept(
        files[f"{row}.json"].encode(),
        None if envelope is None else envelope.encode(),
        key=key,
        expects=kit.expects,
        into=into,
        came=f"{host.user}@{host.host}",
    )
    print(f"{kit.title}: {verdict}, on {host.host}")


async def _session(kit: Kit, host: LabHost) -> dict[str, Any]:
    doing = Namespace(what="connecting")
    with by_name(host, doing):
        async with asyncssh.connect(
            host.host,
            port=host.port,
            username=host.user,
            known_hosts=([asyncssh.import_public_key(host.host_key)], [], []),
            client_keys=[asyncssh.read_private_key(host.identity)],
            preferred_auth="publickey",
            agent_path=None,
            config=None,
            connect_timeout=_CONNECT_S,
            login_timeout=_CONNECT_S,
            keepalive_interval=15,
            keepalive_count_max=3,
        ) as connection:
            agent = _Agent(connection, host, doing)
            doing.what = "opening SFTP"
            async with connection.start_sftp_client() as sftp:
                # One transfer at a time from here to there: shared files travel once.
                with _sending(host):
                    await _transfer(agent, sftp, kit)
                return await _run(agent, sftp, kit)


class _Agent:
    """Starts `phiforge.remote.agent` on the host, one request at a time."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, host: LabHost, doing: Namespace
    ) -> None:
        self._connection, self.host, self.doing = connection, host, doing
        here = f"{uuid.getnode()} {Path.cwd()}"
        self.client = hashlib.sha256(here.encode()).hexdigest()[:12]

    async def ask(self, command: str, answer: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the event ``answer``; other events are printed."""
        request = {"command": command, "folder": self.host.folder, **arguments}
        process: asyncssh.SSHClientProcess[str] = await self._connection.create_process(
            f"{self.host.python} -",
            stderr=asyncssh.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        noise: list[str] = []
        answered: dict[str, Any] | None = None
        try:
            process.stdin.write(_program(request))
            process.stdin.write_eof()
        except (BrokenPipeError, OSError):
            pass  # it ended at once; what it said is read below
        async for line in process.stdout:
            event = _event(line)
            if event is None:
                noise.append(line.strip())
            elif event["event"] == answer:
                answered = event
            elif event["event"] == "refused":
                raise self._refused(event["name"], event["what"])
            elif event["event"] == "python":
                raise RunnerError(
                    "python-version",
                    f"'{self.host.python}' there is another Python",
                    where=self.host.host,
                    expected=".".join(map(str, PYTHON)),
                    found=event["found"],
                    remedy="name a Python 3.11 in the row (ssh.python)",
                )
            else:
                print(f"{self.host.host}: {event.get('what', event['event'])}", flush=True)
        if answered is None:
            ended = await process.wait()
            lost = self._connection.is_closed()
            raise ended_early(self.host, self.doing.what, ended, noise, lost)
        return answered

    def _refused(self, name: str, what: str) -> RunnerError:
        remedy = "run again" if name.startswith("damaged") else _REMEDIES.get(name)
        return RunnerError(name, f"{self.doing.what}: {what}", where=self.host.host, remedy=remedy)


_REMEDIES = {
    "disk-full": "make room there (store/ and envs/ in the working folder may go), then run again",
    "time-limit": "look whether the device hangs, or raise ssh.time_limit_s",
    "environment": "let pip there reach an index that has the locked wheels",
}


def _event(line: str) -> dict[str, Any] | None:
    """An agent's line; None: something else that a host prints."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _program(request: Mapping[str, Any]) -> str:
    """Python for any version's parser, in ASCII, that runs `phiforge.remote.agent` on 3.11 only."""
    source = ascii(_REMOTE.read_text(encoding="utf-8"))
    return (
        "import sys\n"
        f"if sys.version_info[:2] != {PYTHON!r}:\n"
        '    sys.stdout.write(\'{"event": "python", "found": "%d.%d"}\\n\''
        " % sys.version_info[:2])\n"
        "else:\n"
        "    space = {'__name__': 'phiforge_remote'}\n"
        f"    exec(compile({source}, 'remote.py', 'exec'), space)\n"
        f"    space['main']({json.dumps(request)!a})\n"
    )


@contextmanager
def _sending(host: LabHost) -> Iterator[None]:
    name = hashlib.sha256(f"{host.host} {host.port} {host.folder}".encode()).hexdigest()[:12]
    with file_lock(_LOCKS / f"{name}.lock"):
        yield


async def _transfer(agent: _Agent, sftp: asyncssh.SFTPClient, kit: Kit) -> None:
    agent.doing.what = "looking what is there"
    files = {file.sha256: file for file in kit.files}
    lock = next(file for file in kit.files if file.name == "device.lock")
    seen = await agent.ask(
        "probe",
        "probed",
        client=agent.client,
        files=sorted(files),
        lock=lock.sha256,
        pins=pinned(lock.source.read_text(encoding="utf-8")),
    )
    missing = [file for digest, file in files.items() if digest not in set(seen["present"])]
    offsets = {file.sha256: _resume_at(seen["parts"].get(file.sha256, 0)) for file in missing}
    to_send = sum(file.size - offsets[file.sha256] for file in missing)
    needed = to_send + _ROOM + (0 if seen["environment"] else _ENVIRONMENT)
    if needed > seen["free"]:
        raise RunnerError(
            "disk-full",
            "not enough room on the lab host's disk",
            where=f"{agent.host.host}:{agent.host.folder}",
            expected=f"{needed / 1e6:.0f} MB free",
            found=f"{seen['free'] / 1e6:.0f} MB",
            remedy=_REMEDIES["disk-full"],
        )
    total = sum(file.size for file in files.values())
    for file in missing:
        agent.doing.what = f"sending {file.name}"
        path = f"{agent.host.folder}/store/{file.sha256}.{agent.client}.part"
        await _send(sftp, file, path, offsets[file.sha256])
    if missing:
        agent.doing.what = "verifying what was sent"
        await agent.ask(
            "adopt", "adopted", client=agent.client, files=[file.sha256 for file in missing]
        )
    print(f"sent {to_send} of {total} bytes to {agent.host.host}; the rest was there", flush=True)


def _resume_at(size: int) -> int:
    """Where to go on after a cut: only whole chunks before the last are known to be complete."""
    return max(0, size - 1) // _CHUNK * _CHUNK


async def _send(sftp: asyncssh.SFTPClient, file: KitFile, path: str, offset: int) -> None:
    async with sftp.open(path, "r+b" if offset else "wb") as remote:
        with file.source.open("rb") as stream:
            stream.seek(offset)
            while chunk := stream.read(_CHUNK):
                await remote.write(chunk, offset)
                offset += len(chunk)


async def _run(agent: _Agent, sftp: asyncssh.SFTPClient, kit: Kit) -> dict[str, Any]:
    agent.doing.what = "running the check"
    host = agent.host
    name = uuid.uuid4().hex
    path = f"{host.folder}/heartbeats/{name}"
    await _beat_once(sftp, path, 0)
    beating = asyncio.create_task(_beat(sftp, path, host.heartbeat_s / 4))
    try:
        return await agent.ask(
            "run",
            "ended",
            job=job_bytes(kit).decode(),
            heartbeat=name,
            heartbeat_s=host.heartbeat_s,
            time_limit_s=host.time_limit_s,
            runner_key=host.runner_key,
        )
    finally:
        beating.cancel()


async def _beat(sftp: asyncssh.SFTPClient, path: str, period_s: float) -> None:
    count = 0
    while True:
        await asyncio.sleep(period_s)
        count += 1
        await _beat_once(sftp, path, count)


async def _beat_once(sftp: asyncssh.SFTPClient, path: str, count: int) -> None:
    async with sftp.open(path, "wb") as pulse:
        await pulse.write(str(count).encode(), 0)
