"""Tasks in the queue of SLURM, each a batch job that submitit writes and hands over.

What is handed over is a command line: no function is pickled, and nothing that a job writes is
read but its log. Jobs wait for those they come after (`afterany`: how a parent's job ended does not
matter, since a worker trains what is missing), and go on without their driver.

Preempted, or near its time limit, a job gets SIGTERM: the worker commits every lane's part and
exits with 75, and the job goes back into the queue under its own number. A node that dies puts its
jobs back too (`--requeue`).

`cluster=local` is submitit's executor on this machine: the same jobs without a queue.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import Failed, Refused
from sweeps.engines.fleet import private
from sweeps.engines.options import number_of, refuse_unknown
from sweeps.notes import began
from sweeps.notice import EXIT_AGAIN

CLUSTERS = ("slurm", "local")
# As submitit and sbatch have them; `time` in minutes.
TEXTS = ("partition", "account", "qos", "constraint", "gres", "nodelist", "exclude", "mem")
NUMBERS = ("time", "gpus_per_node", "cpus_per_task")
OPTIONS = ("cluster", *TEXTS, *NUMBERS)
DEFAULT_MINUTES = 240  # a longer task goes back into the queue and on from what it committed
NOTICE_SECONDS = 120  # of SIGTERM before the time limit
QUEUE_SECONDS = 30  # for squeue to answer
REQUEUE = f'code=$?; [ $code -eq {EXIT_AGAIN} ] && scontrol requeue "$SLURM_JOB_ID"; exit $code'
# submitit's local executor starts a task again that exits with 144. SIGTERM is handed on.
LOCALLY = f"""
trap 'kill -TERM $worker' TERM
"$@" & worker=$!
wait $worker; code=$?
while kill -0 $worker 2>/dev/null; do wait $worker; code=$?; done
[ $code -eq {EXIT_AGAIN} ] && exit 144
exit $code
"""
LOCAL_MINUTES = 60 * 24 * 365


class SlurmEngine:
    """SLURM's queue, or this machine in its place."""

    def __init__(self, folder: Path, told: Mapping[str, str], study: str) -> None:
        """Raises Refused."""
        submitit = check(told)
        self.local = told.get("cluster") == "local"
        self.name = "slurm-local" if self.local else "slurm"
        self.queues = not self.local
        self.folder = private(folder).absolute() / "slurm"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        parameters: dict[str, Any] = {one: told[one] for one in TEXTS if one in told}
        parameters |= {one: number_of(told, one) for one in NUMBERS if one in told}
        try:
            if self.local:
                self.executor = submitit.LocalExecutor(self.folder)
                self.executor.update_parameters(timeout_min=LOCAL_MINUTES, stderr_to_stdout=True)
            else:
                self.executor = submitit.SlurmExecutor(self.folder)
                parameters.setdefault("time", DEFAULT_MINUTES)
                self.executor.update_parameters(
                    **parameters,
                    job_name=f"lab-{study}",
                    stderr_to_stdout=True,
                    teardown=[REQUEUE],
                    additional_parameters={
                        "signal": f"TERM@{NOTICE_SECONDS}",  # to the worker, not to the script
                        "requeue": True,
                    },
                )
        except (RuntimeError, ValueError, TypeError) as error:
            raise Refused(f"--engine slurm: {str(error).splitlines()[0]}") from None

    def submit(self, command: Sequence[str], after: Sequence[str]) -> str:
        if self.local:
            command = ["sh", "-c", LOCALLY, "lab", *command]
        else:
            waits = f"afterany:{':'.join(after)}" if after else None
            self.executor.update_parameters(dependency=waits)
        try:
            job = self.executor._submit_command(shlex.join(command))
        except Exception as error:  # submitit has errors of its own, and sbatch's words in them
            lines = [line for line in str(error).splitlines() if line.strip()]
            why = lines[-1] if lines else type(error).__name__
            raise Failed(f"{self.name} takes no job: {why}") from error
        if self.local:
            return f"{job.job_id}.{began(int(job.job_id))}"  # numbers are given out again
        return str(job.job_id)

    def alive(self, ids: Collection[str]) -> set[str]:
        if self.local:
            return {id for id in ids if began(int(id.partition(".")[0])) == id.partition(".")[2]}
        if not ids:
            return set()
        asked = ["squeue", "--noheader", "--format=%i", f"--user={os.getuid()}"]
        try:
            told = subprocess.run(
                asked, capture_output=True, text=True, timeout=QUEUE_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return set(ids)  # a queue that does not answer has lost nothing
        return set(ids) & set(told.stdout.split())

    def log(self, id: str) -> Path:
        return self.folder / f"{id.partition('.')[0]}_0_log.out"

    def close(self) -> None:
        """Jobs go on."""


def check(told: Mapping[str, str]) -> Any:
    """The package, if it is there and these options are SLURM's. Raises Refused; starts nothing."""
    refuse_unknown("slurm", told, OPTIONS)
    if told.get("cluster", "slurm") not in CLUSTERS:
        raise Refused(f"--engine-set cluster={told['cluster']}: must be {' or '.join(CLUSTERS)}")
    for name in NUMBERS:
        number_of(told, name)
    # it would set up logging anew, which closes what others log to
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    try:
        import submitit
    except ImportError as error:
        raise Refused(
            f"--engine slurm needs the package submitit ({error}): "
            "pip install 'scaling-law-lab[slurm]'"
        ) from None
    if told.get("cluster") != "local" and shutil.which("srun") is None:
        raise Refused("--engine slurm: no srun here: start the driver where sbatch works")
    return submitit
