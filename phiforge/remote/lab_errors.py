"""Name what can go wrong on the way to a lab host, each cause in one line."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncssh

from phiforge.remote import RunnerError
from phiforge.settings.devices import LabHost

_CUT = (
    asyncssh.ConnectionLost,
    asyncssh.DisconnectError,
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.ChannelOpenError,
    ConnectionError,
    asyncio.IncompleteReadError,
)


@dataclass
class Progress:
    """The step that a session is at, as a participle: ``sending payload/model.bin``."""

    step: str = "connecting"


@contextmanager
def named_errors(host: LabHost, progress: Progress) -> Iterator[None]:
    """Turn what asyncssh raises into a `RunnerError` that names the step."""
    place = f"{host.user}@{host.host}:{host.port}"
    try:
        yield
    except RunnerError:
        raise
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed):
        raise RunnerError(
            "host-key",
            "the lab host has another key than the row pins",
            where=place,
            expected=host.host_key,
            remedy="find out who answers there; only if the host was set up anew, pin its new key",
        ) from None
    except asyncssh.PermissionDenied:
        raise RunnerError(
            "wrong-key",
            f"the lab host does not take the key {host.identity}",
            where=place,
            remedy=f"put its public part into the authorized keys of {host.user} there",
        ) from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise RunnerError(
            "identity",
            f"the key cannot be read ({error})",
            where=host.identity,
            remedy="name a private key without a passphrase (ssh.identity)",
        ) from None
    except _CUT as error:
        if progress.step == "connecting":
            raise _unreachable(place, error) from None
        raise _cut(place, progress.step) from None
    except asyncssh.SFTPError as error:
        raise RunnerError(
            "transfer",
            f"the lab host refused it while {progress.step}: {error.reason}",
            where=place,
            remedy="look whether its disk is full and the working folder may be written, "
            "then run again",
        ) from None
    except OSError as error:
        if progress.step == "connecting":
            raise _unreachable(place, error) from None
        if isinstance(error, TimeoutError):
            raise _silent(place, progress.step, host.heartbeat_s) from None
        raise
    except asyncssh.Error as error:
        raise RunnerError(
            "connection-failed",
            f"the ssh connection failed while {progress.step}: {error.reason}",
            where=place,
            remedy="run again; what was sent is kept there",
        ) from None


def _unreachable(place: str, error: Exception) -> RunnerError:
    return RunnerError(
        "unreachable",
        f"the lab host does not answer ({error or type(error).__name__})",
        where=place,
        remedy="start it, or correct ssh.host and ssh.port in the row",
    )


def _cut(place: str, step: str) -> RunnerError:
    return RunnerError(
        "connection-cut",
        f"the connection was cut while {step}",
        where=place,
        remedy="run again; what was sent is kept there",
    )


def _silent(place: str, step: str, heartbeat_s: float) -> RunnerError:
    return RunnerError(
        "silent",
        f"the lab host has been silent for {heartbeat_s:.0f} s while {step}",
        where=place,
        remedy="look whether it hangs or lost its network, then run again; where it is only slow, "
        "raise ssh.heartbeat_s",
    )


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
    place = f"{host.user}@{host.host}:{host.port}"
    last = next((line for line in reversed(list(output)) if line), "nothing was printed")
    if ended.exit_signal is not None or (ended.exit_status or 0) > 128:
        how = ended.exit_signal[0] if ended.exit_signal else f"exit code {ended.exit_status}"
        return RunnerError(
            "killed",
            f"phiforge's process there was killed ({how}) while {step}",
            where=place,
            remedy="look whether the host ran out of memory, then run again",
        )
    if lost or ended.exit_status is None:
        return _cut(place, step)
    if ended.exit_status == 0 or any(line.startswith("Traceback") for line in output):
        return RunnerError(
            "host", f"phiforge's process there failed while {step}: {last}", where=place
        )
    return RunnerError(
        "python-missing",
        f"'{host.python}' does not start there ({last})",
        where=place,
        remedy="install Python 3.11 there, or name it in the row (ssh.python)",
    )
