"""A SLURM of one node on loopback, for this test run alone: slurmctld, slurmd, and their files."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=20
SlurmUser={user}
SlurmdUser={user}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
MailProg=/bin/true
ReturnToService=2
KillWait=60
SchedulerParameters=sched_interval=1
{plugins}
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=lab Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
START_SECONDS = 60.0


def program(name: str) -> Path | None:
    """A SLURM program, under its own name or Debian's."""
    for one in (name, f"{name}-wlm"):
        found = shutil.which(one, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if found is not None:
            return Path(found).resolve()
    return None


def why_not() -> str | None:
    """Why there can be no SLURM here, if so."""
    needed = ("slurmctld", "slurmd", "slurmstepd", "srun", "sbatch", "squeue", "scontrol")
    missing = [name for name in needed if program(name) is None]
    return f"SLURM is not installed here (no {missing[0]})" if missing else None


@contextmanager
def slurm(place: Path) -> Iterator[dict[str, str]]:
    """A SLURM that runs jobs; the environment variables that find it."""
    host, ports = socket.gethostname().partition(".")[0], _free_ports(2)
    server, daemon, step = (program(one) for one in ("slurmctld", "slurmd", "slurmstepd"))
    assert server is not None
    assert daemon is not None
    plugins = [one.parent for one in server.parents[1].glob("lib/**/auth_none.so")]
    for name in ("state", "spool"):
        (place / name).mkdir(parents=True)
    configuration = place / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=host,
            ports=ports,
            place=place,
            user=os.environ.get("USER") or "root",
            plugins=f"PluginDir={plugins[0]}" if plugins else "",
        )
    )
    found = {"SLURM_CONF": str(configuration)}
    told = {**os.environ, **found}
    processes = [
        subprocess.Popen([server, "-D"], env=told, stderr=subprocess.DEVNULL),
        subprocess.Popen(
            [daemon, "-D", "-N", host, "-d", step], env=told, stderr=subprocess.DEVNULL
        ),
    ]
    try:
        deadline = time.monotonic() + START_SECONDS
        while "idle" not in _asked(["sinfo", "-h", "-o", "%t"], told):
            assert time.monotonic() < deadline, (place / "slurmctld.log").read_text()[-2000:]
            time.sleep(0.5)
        yield found
    finally:
        _asked(["scancel", "--user", str(os.getuid())], told)
        for one in processes:
            one.terminate()
        for one in processes:
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def _asked(command: list[str], told: dict[str, str]) -> str:
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=60)
    return done.stdout


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
