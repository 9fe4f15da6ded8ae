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
from phiforge.cache.key import read_shared_job
from phiforge.cache.work import read_work
from phiforge.child import die_with_parent
from phiforge.errors import PhiforgeError

FIRST_ANSWER_S = 30  # whether there is an entry, a storage says at once


def main() -> None:
    die_with_parent()
    request = json.load(sys.stdin)
    json.dump(answer(request), sys.stdout)  # SIGALRM ends this process, wherever it hangs


def answer(
    request: dict[str, Any], patience: Callable[[int], object] = signal.alarm
) -> dict[str, Any]:
    """Do what is asked.

    Args:
        patience: called with how many seconds the next step may take.

    Returns:
        ``notes`` for the log; ``records`` to write, if something was taken; ``broken``: the storage
        did not do its part; ``shared``: whether the result of such a job is shared at all.
    """
    work = read_work(request["argv"])
    job = None if work is None else read_shared_job(work)
    if work is None or job is None:
        return {"notes": [], "shared": False}
    exchange, limit = None, request["time_limit_s"]
    patience(min(limit, FIRST_ANSWER_S) if request["do"] == "take" else limit)
    try:
        exchange = Exchange(request["cache"], work, job)
        if request["do"] == "put":
            exchange.put(write=request["write"], again=request["again"])
            return {"notes": exchange.notes, "shared": True}
        scratch = None if request["scratch"] is None else Path(request["scratch"])
        found = exchange.entries()
        patience(limit)
        records = exchange.take(found, scratch)
        if records is not None:
            written = [[str(path), text] for path, text in records]
            return {"notes": exchange.notes, "shared": True, "records": written}
    except (PhiforgeError, OSError) as error:
        notes = [] if exchange is None else exchange.notes
        return {"notes": [*notes, f"out of order: {error}"], "shared": True, "broken": True}
    return {"notes": exchange.notes, "shared": True}


if __name__ == "__main__":
    main()
