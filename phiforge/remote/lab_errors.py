"""What can go wrong between here and a lab host, each cause under its own name, in one line."""

import asyncio
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def by_name(host: LabHost, doing: Namespace) -> Iterator[None]:
    """Turn what asyncssh raises into a `RunnerError`; ``doing.what`` says at which step."""
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
        if doing.what == "connecting":
            raise _unreachable(place, error) from None
        raise _cut(place, doing.what) from None
    except asyncssh.SFTPError as error:
        raise RunnerError(
            "transfer",
            f"the lab host refused it while {doing.what}: {error.reason}",
            where=place,
            remedy="look whether its disk is full and the working folder may be written, "
            "then run again",
        ) from None
    except (TimeoutError, OSError) as error:
        if doing.what != "connecting":
            raise
        raise _unreachable(place, error) from None


def _unreachable(place: str, error: Exception) -> RunnerError:
    return RunnerError(
        "unreachable",
        f"the lab host does not answer ({error or type(error).__name__})",
        where=place,
        remedy="start it, or correct ssh.host and ssh.port in the row",
    )


def _cut(place: str, doing: str) -> RunnerError:
    return RunnerError(
        "connection-cut",
        f"the connection was cut while {doing}",
        where=place,
        remedy="run again; what came over is kept there",
    )


def ended_early(
    host: LabHost, doing: str, ended: Any, noise: Sequence[str], lost: bool
) -> RunnerError:
    """The far side's Python ended without an answer.

    Args:
        ended: asyncssh's completed process.
        noise: what it printed.
        lost: whether the connection is gone.
    """
    place = f"{host.user}@{host.host}:{host.port}"
    last = next((line for line in reversed(noise) if line), "nothing was printed")
    if ended.exit_signal is not None or (ended.exit_status or 0) > 128:
        how = ended.exit_signal[0] if ended.exit_signal else f"exit code {ended.exit_status}"
        return RunnerError(
            "killed",
            f"phiforge's process there was killed ({how}) while {doing}",
            where=place,
            remedy="look whether the host ran out of memory, then run again",
        )
    if lost or ended.exit_status is None:
        return _cut(place, doing)
    if ended.exit_status == 0 or any(re.match("Traceback", line) for line in noise):
        return RunnerError(
            "host", f"phiforge's process there failed while {doing}: {last}", where=place
        )
    return RunnerError(
        "python-missing",
        f"'{host.python}' does not start there ({last})",
        where=place,
        remedy="install Python 3.11 there, or name it in the row (ssh.python)",
    )
