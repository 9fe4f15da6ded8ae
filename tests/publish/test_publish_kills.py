"""Kills while a release is published: the old version counts, or the new one, whole."""

import json
import sys
from pathlib import Path

from support.publishing_runs import NAME, Publisher

# Publishes a version over another one, once for each of many points: killed at that point, then to
# its end, each time onto a copy of a folder that holds the old version. A fork of one warm process
# each. Prints what the pointer named after the kill and after the run that followed.
DRIVER = """
import json, os, shutil, signal, sys
from phiforge import cli
from pathlib import Path
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify

shelf_before, name, policy, *arguments = sys.argv[1:]
policy = json.loads(policy)
CALLS = [(shutil, "copyfile"), (os, "fsync"), (os, "replace")]
counted = Path(shelf_before).with_name("counted")

def run(left):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    count = 0
    def killing(function):
        def call(*given, **named):
            nonlocal count
            for done in (False, True):
                result = function(*given, **named) if done else None
                count += 1
                if count == left:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call
    for place, call in CALLS:
        setattr(place, call, killing(getattr(place, call)))
    try:
        job = counted.with_suffix(".job.json")
        job.write_text(json.dumps({"policy": policy, "releases": []}))
        cli.main(["publish", *arguments, "--job", str(job)])
    except SystemExit as end:
        assert end.code in (None, 0), end.code
    counted.write_text(str(count))
    os._exit(0)

def counts(place):
    folder = Path(place) / name
    pointer = json.loads((folder / "latest.json").read_text())
    found = verify(folder / pointer["latest"], Trust())
    assert not found.refused, found.findings
    return found.version

def tried(left):
    place = Path(shelf_before).with_name(f"shelf-{left}")
    shutil.copytree(shelf_before, place)
    policy["storage"][0]["url"] = str(place)
    status = run(left)
    after = counts(place)
    assert run(0) == 0
    left_over = sorted(path.name for path in (place / name).iterdir() if path.is_file())
    shown = [left, os.WIFSIGNALED(status), after, counts(place), left_over]
    shutil.rmtree(place)
    return shown

assert not tried(0)[1]
run_on_top = int(counted.read_text())  # a second publication: nothing is written
assert run_on_top == 0, run_on_top
place = Path(shelf_before).with_name("shelf-count")
shutil.copytree(shelf_before, place)
policy["storage"][0]["url"] = str(place)
run(0)
total = int(counted.read_text())
for left in [*range(1, total - 8, 23), *range(total - 8, total + 1)]:
    print(json.dumps(tried(left)), flush=True)
"""


def test_a_kill_at_any_point_leaves_a_whole_version(publisher: Publisher, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    publisher.policy["storage"] = [{"url": str(shelf)}]
    publisher.publish("0.1.0")
    publisher.take("0.2.0")
    done = publisher.checkout.run(
        sys.executable, "-c", DRIVER, str(shelf), NAME, json.dumps(publisher.policy),
        NAME, "--root", str(publisher.root), **publisher.environment,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(rows) > 12
    after = [row[2] for row in rows]
    assert after == sorted(after)  # once the new version counts, it stays
    assert {"0.1.0", "0.2.0"} == set(after)
    for _, killed, _, completed, beside in rows:
        assert killed
        assert completed == "0.2.0"
        assert beside == ["latest.json"]
