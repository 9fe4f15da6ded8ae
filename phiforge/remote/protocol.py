"""Talk to `phiforge.remote.agent` on a lab host: a program on standard input, JSON lines back.

What the host prints is somebody else's: every line is bounded, every field checked before it is
used, and no control character reaches the terminal.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from phiforge.errors import printable
from phiforge.remote import RunnerError
from phiforge.remote.kit import PYTHON

_AGENT = Path(__file__).with_name("agent.py")
_LONGEST_LINE = 16 << 20  # characters; a receipt has some hundred thousand
_BLOCK = 1 << 16

Event = Mapping[str, Any]


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62


def _mapping_to(kind: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(kind, value.values()))


def _text(value: object) -> bool:
    return isinstance(value, str)


_FIELDS: Mapping[str, Mapping[str, Callable[[object], bool]]] = {
    "probed": {
        "present": _texts,
        "parts": _mapping_to(_number),
        "free": _number,
        "environment": lambda value: isinstance(value, bool),
    },
    "stored": {},
    "ended": {"exit": _number, "files": _mapping_to(_text), "log": _text},
    "refused": {"name": _text, "what": _text},
    "python": {"found": _text},
}


def program(request: Mapping[str, Any]) -> str:
    """Return Python for any version's parser, in ASCII, that runs the agent on 3.11 only."""
    source = ascii(_AGENT.read_text(encoding="utf-8"))
    return (
        "import sys\n"
        f"if sys.version_info[:2] != {PYTHON!r}:\n"
        '    sys.stdout.write(\'{"event": "python", "found": "%d.%d"}\\n\''
        " % sys.version_info[:2])\n"
        "else:\n"
        "    space = {'__name__': 'phiforge_agent'}\n"
        f"    exec(compile({source}, 'agent.py', 'exec'), space)\n"
        f"    space['main']({json.dumps(request)!a})\n"
    )


def read_event(line: str, host: str) -> Event | None:
    """Return an agent's line; None: something else that a host prints.

    Raises:
        RunnerError: ``odd-answer``, a field that the event must have is missing or another type.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    for name, has_type in _FIELDS.get(event["event"], {}).items():
        if name not in event or not has_type(event[name]):
            what = "has an odd" if name in event else "lacks the"
            raise odd_answer(host, f"its answer '{event['event']}' {what} field '{name}'")
    return event


def message(event: Event) -> str:
    """Return what an event says to a person, without control characters."""
    return printable(str(event.get("what", event["event"])))


class Reader(Protocol):
    """The part of asyncssh's SSHReader that `lines` needs."""

    async def read(self, n: int) -> str:
        """Return up to ``n`` characters; none at the end."""


async def lines(reader: Reader, host: str) -> AsyncIterator[str]:
    """Yield the lines of ``reader``.

    Raises:
        RunnerError: ``odd-answer``, a line does not end.
    """
    rest = ""
    while block := await reader.read(_BLOCK):
        *complete, rest = (rest + block).split("\n")
        for line in complete:
            yield line
        if len(rest) > _LONGEST_LINE:
            raise odd_answer(host, f"it prints a line of more than {_LONGEST_LINE} characters")
    if rest:
        yield rest


def odd_answer(host: str, what: str) -> RunnerError:
    """Return the error for an answer that no agent gives."""
    return RunnerError(
        "odd-answer",
        f"the lab host does not answer as phiforge's agent does: {what}",
        where=host,
        remedy="look what runs there under the name of Python (ssh.python), then run again",
    )
