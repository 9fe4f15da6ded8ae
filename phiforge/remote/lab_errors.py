"""Name what can go wrong on the way to a lab host, each cause in one line."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncssh

from phiforge.remote import RunnerError
from phiforge.settings.devices import LabHost

_CONNECTING = "connecting"
_CUT = (
    asyncssh.ConnectionLost,
    asyncssh.DisconnectError,
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.ChannelOpenError,
    ConnectionError,
    asyncio.IncompleteReadError,
)
_UNREADABLE = (asyncssh.KeyImportError, asyncssh.KeyEncryptionError)
_REMEDIES = {
    "host-key": "find out who answers there; only if the host was set up anew, pin its new key",
    "identity": "name a private key without a passphrase (ssh.identity)",
    "unreachable": "start it, or correct ssh.host and ssh.port in the row",
    "transfer": "look whether its disk is full and the working folder may be written, then run "
    "again",
    "silent": "look whether it hangs or lost its network, then run again; where it is only slow, "
    "raise ssh.heartbeat_s",
    "killed": "look whether the host ran out of memory, then run again",
    "python-missing": "install Python 3.11 on the host, or name it in the row (ssh.python)",
}
_AGAIN = "run again; what was sent is kept"


@dataclass
class Progress:
    """The step that a session is at, as a participle: ``sending payload/model.bin``."""

    step: str = _CONNECTING


@contextmanager
def named_errors(host: LabHost, progress: Progress) -> Iterator[None]:
    """Turn what asyncssh raises into a `RunnerError` that names the step."""
    try:
        yield
    except (asyncssh.Error, *_UNREADABLE, OSError, asyncio.IncompleteReadError) as error:
        raise _named(error, host, progress.step) from None


def _named(error: Exception, host: LabHost, step: str) -> Exception:
    if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.KeyExchangeFailed):
        what = f"the lab host has another key than the row pins, {host.host_key}"
        return _error("host-key", what, host)
    if isinstance(error, asyncssh.PermissionDenied):
        what = f"the lab host does not take the key {host.identity}"
        remedy = f"put its public part into the authorized keys of {host.user} on the host"
        return _error("wrong-key", what, host, remedy)
    if isinstance(error, _UNREADABLE):
        return _error("identity", f"the key {host.identity} cannot be read ({error})", host)
    if step == _CONNECTING and isinstance(error, (*_CUT, OSError)):
        what = f"the lab host does not answer ({error or type(error).__name__})"
        return _error("unreachable", what, host)
    if isinstance(error, _CUT):
        return _error("connection-cut", f"the connection was cut while {step}", host)
    if isinstance(error, TimeoutError):
        what = f"the lab host has been silent for {host.heartbeat_s:.0f} s while {step}"
        return _error("silent", what, host)
    if isinstance(error, asyncssh.SFTPError):
        return _error("transfer", f"the lab host refused it while {step}: {error.reason}", host)
    if isinstance(error, asyncssh.Error):
        what = f"the ssh connection failed while {step}: {error.reason}"
        return _error("connection-failed", what, host)
    return error  # of a file on this machine


def ended_early(
    host: LabHost,
    step: str,
    ended: asyncssh.SSHCompletedProcess,
    output: Collection[str],
    lost: bool,
) -> RunnerError:
    """Return the error for a Python on the host that ended without an answer.

    Args:
        output: the last lines that it printed.
        lost: whether the connection is gone.
    """
    last = next((line for line in reversed(list(output)) if line), "nothing was printed")
    if ended.exit_signal is not None or (ended.exit_status or 0) > 128:
        how = ended.exit_signal[0] if ended.exit_signal else f"exit code {ended.exit_status}"
        return _error(
            "killed", f"phiforge's process on the host was killed ({how}) while {step}", host
        )
    if lost or ended.exit_status is None:
        return _error("connection-cut", f"the connection was cut while {step}", host)
    if ended.exit_status == 0 or any(line.startswith("Traceback") for line in output):
        return _error("host", f"phiforge's process on the host failed while {step}: {last}", host)
    return _error("python-missing", f"'{host.python}' does not start on the host ({last})", host)


def _error(name: str, what: str, host: LabHost, remedy: str | None = None) -> RunnerError:
    return RunnerError(
        name,
        what,
        where=f"{host.user}@{host.host}:{host.port}",
        remedy=remedy or _REMEDIES.get(name, _AGAIN),
    )
