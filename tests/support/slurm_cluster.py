"""A Slurm cluster on this machine: one slurmctld, and slurmd on nodes that are namespaces.

    apt-get install --no-install-recommends slurmctld slurmd munge

A node has its own processes, mounts, host name and control groups, and its slurmd a port: killing
the node's first process is its end. `enter` must have been called before, in a process
of root: all that is started lives in one process namespace, and ends with it even after a kill.
Memory is limited by control groups of version 1.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HEAD = "head"
_INSIDE, _NAME = "PHIFORGE_SLURM_BENCH", "phiforge-slurm-"
_CGROUPS = Path("/sys/fs/cgroup")
_ETC = Path("/etc/slurm")
_NEEDED = ("slurmctld", "slurmd", "munged", "unshare")
_FIRST_PORT = 26817
_CONFIGURATION = """\
ClusterName=bench
SlurmctldHost={head}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%h
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%h.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%h.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
GresTypes=npu
ReturnToService=2
SlurmdTimeout=10
KillWait=30
InactiveLimit=0
MinJobAge=600
SchedulerParameters=sched_interval=2,batch_sched_delay=1
"""


class ClusterFault(Exception):
    """The cluster cannot be made here, or did not do in time what it should."""


def missing() -> list[str]:
    """Name what a cluster needs and is not here."""
    needed = [name for name in _NEEDED if shutil.which(name) is None]
    if not _ETC.is_dir():
        needed.append(str(_ETC))
    if os.geteuid() != 0:
        needed.append("root")
    if not (_CGROUPS / "memory/cgroup.procs").exists():
        needed.append("control groups of version 1")
    return needed


def enter() -> None:
    """Go on in namespaces of this process's own; what it starts ends with it, however it ends.

    Raises:
        ClusterFault: something is missing here.
    """
    if os.environ.get(_INSIDE):
        return
    if absent := missing():
        raise ClusterFault(f"a cluster needs {', '.join(absent)}")
    for controller in ("memory", "cpuacct"):
        group = own_group(controller)
        for old in group.parent.glob(f"{_NAME}*"):
            _remove(old)
        group.mkdir(exist_ok=True)
        (group / "cgroup.procs").write_text("0")
    unshare = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # The shell is the first process: it takes in those whose parents have ended.
    first = ["bash", "-c", 'set -m; "$@" & wait $!', "bash"]
    os.execvpe(
        "unshare",
        [*unshare, *first, sys.executable, *sys.argv],
        {**os.environ, _INSIDE: "1"},
    )


def own_group(controller: str) -> Path:
    """Return the control group of the cluster and of all that it runs."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            here = _CGROUPS / controller / path.lstrip("/")
            return here if os.environ.get(_INSIDE) else here / f"{_NAME}{os.getpid()}"
    raise ClusterFault("a cluster needs control groups of version 1")


@dataclass
class Node:
    """A node of the cluster.

    Attributes:
        devices: file name to content, of what only this node has in `Cluster.devices`.
    """

    name: str
    features: str = ""
    gres: str = ""
    devices: Mapping[str, bytes] = field(default_factory=dict)
    cpus: int = 2
    process: "subprocess.Popen[bytes] | None" = None

    def line(self, port: int) -> str:
        """Return its line in slurm.conf."""
        line = f"NodeName={self.name} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus}"
        line += " RealMemory=16000 State=UNKNOWN"
        line += f" Feature={self.features}" if self.features else ""
        return line + (f" Gres={self.gres}" if self.gres else "")

    @property
    def group(self) -> Path:
        return own_group("memory") / self.name


class Cluster:
    """A running cluster; `cluster` makes one.

    Attributes:
        devices: a folder that on each node holds what only that node has.
    """

    def __init__(self, folder: Path, nodes: Sequence[Node]) -> None:
        self.folder, self.nodes = folder, {node.name: node for node in nodes}
        self.devices = folder / "devices"

    def start(self) -> None:
        """Start munge, slurmctld and the nodes; return when all nodes wait for jobs."""
        self._configure()
        (self.folder / "munge.key").write_bytes(os.urandom(64))
        (self.folder / "munge.key").chmod(0o400)
        named = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        named["seed-file"] = "seed"
        self._run(
            "munged", "--force", *(f"--{x}={self.folder}/munge.{y}" for x, y in named.items())
        )
        self._run("slurmctld", "-c")
        for name in self.nodes:
            self.start_node(name)
        wait_for(lambda: self.idle() == set(self.nodes), 300, "all nodes wait for jobs")

    def _configure(self) -> None:
        (self.folder / "state").mkdir()
        lines = [_CONFIGURATION.format(head=HEAD, port=_FIRST_PORT, folder=self.folder)]
        lines += [
            node.line(_FIRST_PORT + number) + "\n"
            for number, node in enumerate(self.nodes.values(), 1)
        ]
        lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n")
        (self.folder / "slurm.conf").write_text("".join(lines))
        cgroups = "CgroupPlugin=cgroup/v1\nCgroupAutomount=yes\nConstrainRAMSpace=yes\n"
        (self.folder / "cgroup.conf").write_text(cgroups)
        (self.folder / "gres.conf").write_text(
            "".join(
                f"NodeName={node.name} Name={node.gres.split(':')[0]} Count=1\n"
                for node in self.nodes.values()
                if node.gres
            )
        )
        hosts = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", HEAD, *self.nodes))
        (self.folder / "hosts").write_text(hosts)
        self._run("mount", "--bind", str(self.folder / "hosts"), "/etc/hosts")
        # Not by SLURM_CONF: the executor's step drops it.
        self._run("mount", "--bind", str(self.folder), str(_ETC))
        socket.sethostname(HEAD)
        self.devices.mkdir()

    def start_node(self, name: str) -> None:
        """Start a node, its slurmd with it."""
        node = self.nodes[name]
        node.group.mkdir(exist_ok=True)
        devices = self.folder / f"devices-{name}"
        devices.mkdir(exist_ok=True)
        for file, content in node.devices.items():
            (devices / file).write_bytes(content)
            (devices / file).chmod(0o600)
        script = f"""
            echo 0 > {node.group}/cgroup.procs
            exec unshare --cgroup --mount --uts --pid --fork --kill-child --mount-proc bash -c '
              hostname {name}
              mount --bind {devices} {self.devices}
              mount -t tmpfs none {_CGROUPS}
              mkdir {_CGROUPS}/memory
              mount -t cgroup -o memory none {_CGROUPS}/memory
              slurmd -D -c & wait $!'
        """
        log = (self.folder / f"node-{name}.log").open("ab")
        node.process = subprocess.Popen(["bash", "-c", script], stdout=log, stderr=log)

    def kill_node(self, name: str) -> None:
        """End a node with all that runs there, as a power failure does."""
        process = self.nodes[name].process
        assert process is not None
        process.kill()
        process.wait()
        wait_for(lambda: not self._processes(name), 10, f"the processes of {name} are gone")

    def _processes(self, name: str) -> list[int]:
        found: list[int] = []
        for folder, _, _ in os.walk(self.nodes[name].group):  # groups come and go meanwhile
            with suppress(OSError):
                found += map(int, Path(folder, "cgroup.procs").read_text().split())
        return found

    def idle(self) -> set[str]:
        """Name the nodes that wait for jobs."""
        lines = self.slurm("sinfo", "-h", "-N", "-o", "%N %T").splitlines()
        return {line.split()[0] for line in lines if line.split()[1] == "idle"}

    def jobs(self) -> list[dict[str, str]]:
        """Return Slurm's jobs that wait or run: ``id``, ``state``, ``node`` and ``about``."""
        lines = self.slurm("squeue", "-h", "-o", "%i|%T|%N|%k").splitlines()
        return [
            dict(zip(("id", "state", "node", "about"), x.split("|"), strict=True)) for x in lines
        ]

    def ended(self, job: str) -> str:
        """Return how a job ended, or stands."""
        return self.slurm("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def works(self, job: Mapping[str, str], *module: str) -> list[int]:
        """Return a job's processes whose command is ``python -m MODULE …``."""
        found, begin = [], [word.encode() for word in ("-m", *module)]
        for process in self._processes(job["node"]):
            with suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                if words[1 : 1 + len(begin)] == begin:
                    found.append(process)
        return found

    def signal(self, job: Mapping[str, str], rule: str, number: signal.Signals) -> None:
        """Send a signal to the process that a job's rule has started.

        Raises:
            ClusterFault: it has ended.
        """
        processes = self.works(job, "phiforge", rule)
        if not processes:
            raise ClusterFault(f"the process of {rule} in job {job['id']} has ended")
        for process in processes:
            os.kill(process, number)

    def step(self, job: Mapping[str, str]) -> Path:
        """Return the memory's control group of a job's step, in which its rule runs."""
        node = self.nodes[job["node"]]
        return node.group / f"slurm_{node.name}/uid_0/job_{job['id']}/step_0"

    def slurm(self, *command: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        return self._run(*command)

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterFault(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def stop(self) -> None:
        """End all of it; the namespace would."""
        for node in self.nodes.values():
            if node.process is not None:
                node.process.kill()
                node.process.wait()
        for name in ("slurmctld", "munge"):
            with suppress(OSError, ValueError):
                os.kill(int((self.folder / f"{name}.pid").read_text()), signal.SIGKILL)


def wait_for(what: Callable[[], object], seconds: float, said: str) -> None:
    """Wait until ``what`` is true.

    Raises:
        ClusterFault: it did not become so in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ClusterFault):  # a busy slurmctld does not answer
            if what():
                return
        time.sleep(0.3)
    raise ClusterFault(f"not within {seconds:.0f} s: {said}")


@contextmanager
def cluster(folder: Path, nodes: Sequence[Node]) -> Iterator[Cluster]:
    """Run a cluster whose files are in ``folder``."""
    made = Cluster(folder, nodes)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def cpu_seconds() -> float:
    """Return the processor time of all that ran since `enter`."""
    return int((own_group("cpuacct") / "cpuacct.usage").read_text()) / 1e9


def _remove(group: Path) -> None:
    """Remove a control group that an earlier cluster has left; one with processes stays."""
    for folder in sorted(group.glob("**/"), reverse=True):
        with suppress(OSError):
            folder.rmdir()
