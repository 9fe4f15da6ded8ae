"""Take or put an entry in a process of its own: what hangs or dies there leaves the job as it was.

A request comes on the standard input as JSON, and its answer goes to the standard output.
"""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phiforge.cache.exchange import Exchange
from phiforge.cache.key import Predict, cache_key, read_shared_job
from phiforge.cache.work import read_work
from phiforge.child import die_with_parent
from phiforge.errors import PhiforgeError
from validators.predictions import are_kept, maker

FIRST_ANSWER_S = 30  # whether there is an entry, a storage says at once


class _TooLateError(BaseException):
    """The time limit has passed; no library takes this for a mistake that it may try again."""


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGALRM, _end)
    request = json.load(sys.stdin)
    try:
        answered = answer(request)
    except _TooLateError:
        late = f"out of order: no answer in {request['time_limit_s']} s"
        answered = {"notes": [late], "broken": True}
    json.dump(answered, sys.stdout)


def _end(signal_number: int, frame: object) -> None:
    raise _TooLateError


def answer(
    request: dict[str, Any], patience: Callable[[int], object] = signal.alarm
) -> dict[str, Any]:
    """Do what is asked.

    Args:
        patience: called with how many seconds the next step may take.

    Returns:
        ``notes`` for the log; ``key`` of the inputs, if the result of such a job is shared at all;
        ``records`` to write, if something was taken; ``broken``: the storage did not do its part.
    """
    work = read_work(request["argv"])
    job = None if work is None else read_shared_job(work)
    if work is None or job is None:
        return {"notes": []}
    if isinstance(job, Predict) and work.tree is not None:
        kept = are_kept(work.tree, job.basis)
        ours = kept and maker(work.tree) is None
        if request["do"] == "take" and kept:  # by another row of the artifact
            return {"notes": [], **({"key": cache_key(work, job)} if ours else {})}
        if request["do"] == "put" and not ours:
            return {"notes": []}
    exchange, limit = None, request["time_limit_s"]
    patience(min(limit, FIRST_ANSWER_S) if request["do"] == "take" else limit)
    try:
        exchange = Exchange(request["cache"], work, job)
        answered: dict[str, Any] = {"notes": exchange.notes, "key": exchange.key}
        if request["do"] == "put":
            exchange.put(request["key"], write=request["write"], again=request["again"])
            return answered
        found = exchange.entries()
        patience(limit)
        scratch = None if request["scratch"] is None else Path(request["scratch"])
        records = exchange.take(found, scratch)
        if records is not None:
            answered["records"] = [[str(path), text] for path, text in records]
        return answered
    except (PhiforgeError, OSError) as error:
        notes = [] if exchange is None else exchange.notes
        return {"notes": [*notes, f"out of order: {error}"], "broken": True}


if __name__ == "__main__":
    main()
