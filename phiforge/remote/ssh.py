"""Run a job on a device-lab host: asyncssh, a pinned host key, SFTP, code on standard input.

What the host needs is an OpenSSH server with SFTP, a key that opens the account, and Python 3.11;
the command is ``<python> -`` and nothing else, so no shell's quoting matters. Files are stored on
the host by digest (`phiforge.remote.agent`) and sent once; a transfer that was cut goes on where it
stopped. A host that says nothing for ``heartbeat_s`` is given up, and so is a job that takes longer
than its time limit, whatever the host says.
"""

import asyncio
import hashlib
import logging
import signal
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

from phiforge.artifact.file_lock import file_lock
from phiforge.errors import printable
from phiforge.remote import RunnerError
from phiforge.remote.agent import GRACE_S, pinned
from phiforge.remote.kit import PYTHON, Kit, KitFile
from phiforge.remote.lab_errors import Progress, ended_early, named_errors
from phiforge.remote.protocol import Event, lines, message, program, read_event
from phiforge.remote.receipts import accept
from phiforge.settings.devices import LabHost

_CHUNK = 1 << 20
_SPARE_BYTES = 16 << 20  # that stay free on the host
_ENVIRONMENT_BYTES = 1 << 30  # that making an environment takes, wheels included
_CONNECT_S = 20.0
_START_S = 20.0  # within which Python on the host says something
_LOCKS = Path("artifacts/.lab")


def check_over_ssh(kit: Kit, host: LabHost, *, key: Path | None, into: Path) -> None:
    """Let ``host`` do the job of ``kit`` and write the receipt that comes back.

    Raises:
        RunnerError: by name: ``unreachable``, ``host-key``, ``wrong-key``, ``identity``,
            ``connection-cut``, ``silent``, ``odd-answer``, ``python-missing``,
            ``python-version``, ``no-key``, ``disk-full``, ``transfer``, ``killed``,
            ``time-limit``, ``check-failed``, ``no-receipt``, or what
            `phiforge.remote.receipts.accept` refuses. There is no receipt then.
    """
    # After a cut asyncio reports every block of asyncssh's that was still to be written.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    ended = asyncio.run(_session(kit, host))
    log = printable(ended["log"], keep="\n\t")
    print(log, end="")
    if ended["exit"] != 0:
        last = (log.strip().splitlines() or [""])[-1]
        raise RunnerError(
            "check-failed",
            f"the check on the host ended with {_exit_name(ended['exit'])}: {last}",
            where=host.host,
            remedy="read the lines above this one in the log, then run again",
        )
    row = str(kit.expects["device"])
    receipt, envelope = (ended["files"].get(f"{row}{suffix}") for suffix in (".json", ".dsse.json"))
    if receipt is None:
        raise RunnerError(
            "no-receipt",
            "the check ended well, and no receipt came back",
            where=host.host,
            remedy="run again; if it stays so, report a defect of phiforge",
        )
    verdict = accept(
        receipt.encode("utf-8", "replace"),
        None if envelope is None else envelope.encode("utf-8", "replace"),
        key=key,
        expects=kit.expects,
        into=into,
        source=f"{host.user}@{host.host}",
    )
    print(f"{kit.title}: {verdict}, on {host.host}")


def _exit_name(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


async def _session(kit: Kit, host: LabHost) -> Event:
    progress = Progress()
    with named_errors(host, progress):
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
            try:
                agent = _Agent(connection, host, progress)
                progress.step = "opening SFTP"
                async with asyncio.timeout(host.heartbeat_s):
                    sftp = await connection.start_sftp_client()
                # One transfer at a time to a host: shared files travel once.
                with _sending(host):
                    await _transfer(agent, sftp, kit)
                return await _run(agent, sftp, kit)
            finally:
                connection.abort()  # a host that is silent would not answer a farewell


class _Agent:
    """Starts `phiforge.remote.agent` on the host, one request at a time."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, host: LabHost, progress: Progress
    ) -> None:
        self._connection, self.host, self.progress = connection, host, progress
        checkout = f"{uuid.getnode()} {Path.cwd()}"
        self.client = hashlib.sha256(checkout.encode()).hexdigest()[:12]

    async def ask(self, command: str, answer: str, **arguments: Any) -> Event:
        """Send a request and return the event ``answer``; other events are printed.

        Raises:
            RunnerError: the agent refuses, ends early, answers oddly, or exceeds the time limit.
            TimeoutError: the host is silent.
        """
        host = self.host
        request = {
            "command": command,
            "folder": host.folder,
            "alive_s": host.heartbeat_s / 4,
            **arguments,
        }
        output: deque[str] = deque(maxlen=100)
        now = asyncio.get_running_loop().time
        job_ends = None
        async with asyncio.timeout(max(_START_S, host.heartbeat_s)) as silence:
            process = await self._start(request)
            async for line in lines(process.stdout, host.host):
                silence.reschedule(now() + host.heartbeat_s)
                event = read_event(line, host.host)
                if event is None:
                    output.append(printable(line.strip()))
                elif event["event"] == answer:
                    return event
                elif event["event"] in ("refused", "python"):
                    raise self._refused(event)
                elif event["event"] != "alive":
                    print(f"{host.host}: {message(event)}", flush=True)
                    if event["event"] == "running":
                        job_ends = now() + host.time_limit_s + GRACE_S + host.heartbeat_s
                if job_ends is not None and now() > job_ends:
                    what = f"not done after {host.time_limit_s:.0f} s, and not ended by the host"
                    raise self._refused({"event": "refused", "name": "time-limit", "what": what})
            ended = await process.wait()
        lost = self._connection.is_closed()
        raise ended_early(host, self.progress.step, ended, output, lost)

    async def _start(self, request: dict[str, Any]) -> "asyncssh.SSHClientProcess[str]":
        process: asyncssh.SSHClientProcess[str] = await self._connection.create_process(
            f"{self.host.python} -",
            stderr=asyncssh.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        try:
            process.stdin.write(program(request))
            process.stdin.write_eof()
        except OSError:
            pass  # it ended at once; what it printed can still be read
        return process

    def _refused(self, event: Event) -> RunnerError:
        if event["event"] == "python":
            return RunnerError(
                "python-version",
                f"'{self.host.python}' on the host is another Python",
                where=self.host.host,
                expected=".".join(map(str, PYTHON)),
                found=event["found"],
                remedy="name a Python 3.11 in the row (ssh.python)",
            )
        name = event["name"]
        remedy = "run again" if name.startswith("damaged") else _REMEDIES.get(name)
        what = f"{self.progress.step}: {event['what']}"
        return RunnerError(name, what, where=self.host.host, remedy=remedy)


_REMEDIES = {
    "disk-full": "make room on the host (store/ and envs/ in the working folder may go), then run "
    "again",
    "time-limit": "look whether the device hangs, or raise ssh.time_limit_s",
    "environment": "let pip on the host reach an index that has the locked wheels",
    "no-key": "make it on the host (docs/devices.md), or correct ssh.runner_key, which is relative "
    "to the account's home",
}


@contextmanager
def _sending(host: LabHost) -> Iterator[None]:
    name = hashlib.sha256(f"{host.host} {host.port} {host.folder}".encode()).hexdigest()[:12]
    with file_lock(_LOCKS / f"{name}.lock"):
        yield


async def _transfer(agent: _Agent, sftp: asyncssh.SFTPClient, kit: Kit) -> None:
    agent.progress.step = "looking up the host's store"
    files = {file.sha256: file for file in kit.files}
    lock = next(file for file in kit.files if file.name == "device.lock")
    state = await agent.ask(
        "probe",
        "probed",
        client=agent.client,
        files=sorted(files),
        lock=lock.sha256,
        pins=pinned(lock.source.read_text(encoding="utf-8")),
        runner_key=agent.host.runner_key,
    )
    missing = [file for digest, file in files.items() if digest not in set(state["present"])]
    offsets = {file.sha256: _resume_at(state["parts"].get(file.sha256, 0)) for file in missing}
    to_send = sum(file.size - offsets[file.sha256] for file in missing)
    needed = to_send + _SPARE_BYTES + (0 if state["environment"] else _ENVIRONMENT_BYTES)
    if needed > state["free"]:
        raise RunnerError(
            "disk-full",
            "not enough room on the lab host's disk",
            where=f"{agent.host.host}:{agent.host.folder}",
            expected=f"{needed / 1e6:.0f} MB free",
            found=f"{state['free'] / 1e6:.0f} MB",
            remedy=_REMEDIES["disk-full"],
        )
    total = sum(file.size for file in files.values())
    for file in missing:
        agent.progress.step = f"sending {file.name}"
        path = f"{agent.host.folder}/store/{file.sha256}.{agent.client}.part"
        await _send(agent.host, sftp, file, path, offsets[file.sha256])
    if missing:
        agent.progress.step = "verifying what was sent"
        await agent.ask(
            "store", "stored", client=agent.client, files=[file.sha256 for file in missing]
        )
    print(f"sent {to_send} of {total} bytes to {agent.host.host}; the rest was stored", flush=True)


def _resume_at(size: int) -> int:
    """Return where to go on after a cut: the last whole chunk may be incomplete."""
    return max(0, size - 1) // _CHUNK * _CHUNK


async def _send(
    host: LabHost, sftp: asyncssh.SFTPClient, file: KitFile, path: str, offset: int
) -> None:
    now = asyncio.get_running_loop().time
    with file.source.open("rb") as stream:
        stream.seek(offset)
        async with asyncio.timeout(host.heartbeat_s) as silence:
            async with sftp.open(path, "r+b" if offset else "wb") as remote:
                while chunk := stream.read(_CHUNK):
                    await remote.write(chunk, offset)
                    offset += len(chunk)
                    silence.reschedule(now() + host.heartbeat_s)


async def _run(agent: _Agent, sftp: asyncssh.SFTPClient, kit: Kit) -> Event:
    agent.progress.step = "running the check"
    host = agent.host
    name = uuid.uuid4().hex
    path = f"{host.folder}/heartbeats/{name}"
    async with asyncio.timeout(host.heartbeat_s):
        await _beat_once(sftp, path, 0)
    beating = asyncio.create_task(_beat(sftp, path, host.heartbeat_s / 4))
    try:
        return await agent.ask(
            "run",
            "ended",
            job=kit.job_json(),
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
    async with sftp.open(path, "wb") as remote:
        await remote.write(str(count).encode(), 0)
