"""The power fails: a member starts from what its disk would hold after any of its system calls, with what was not
synced lost or torn, and everything that a client had been told by then is there."""
import json
import os
import shutil
import subprocess
import time

from disk_trace import Disk, Trace, strace_command, write_out
from lib.cluster import Cluster, Member, clean_environment, die_with_parent
from scene import MEMBER_ARGS, Scene, step


class TracedMember(Member):
    """Its system calls are recorded from the first one on."""

    @property
    def trace_path(self):
        return os.path.join(self.cluster.directory, self.name + ".strace")

    def command(self):
        return [*strace_command(self.trace_path), *super().command()]


def acknowledged(history):
    """(moment, revision) of every answer, ascending, on the wall clock."""
    wall = time.time() - time.monotonic()
    moments = []
    with open(history, encoding="utf-8") as lines:
        for line in lines:
            operation = json.loads(line).get("operation")
            if not operation or int(operation.get("returnedNs", 0)) == 0 or operation.get("error"):
                continue
            for kind, answer in operation.items():
                if kind.endswith("Answer") and kind in ("putAnswer", "deleteRangeAnswer", "txnAnswer"):
                    moments.append((int(operation["returnedNs"]) / 1e9 + wall, int(answer["header"]["revision"])))
    return sorted(moments)


class Survivor(Member):
    """Starts from a directory as a power failure left it."""

    def __init__(self, cluster, name, original):
        super().__init__(cluster, name)
        self.original = original
        self.data_dir = os.path.join(cluster.directory, name)

    def command(self):
        command = super().command()
        # It is the same member and goes by the same addresses, but listens elsewhere.
        command[command.index("--name") + 1] = self.original.name
        command[command.index("--initial-advertise-peer-urls") + 1] = self.original.peer_url
        return command


def check_cut(cluster, original, calls, number, moments, hashes, rng, index):
    disk = Disk(original.data_dir)
    for call in calls[:number]:
        disk.apply(call)
    survivor = Survivor(cluster, f"cut{index}", original)
    write_out(disk.crash(rng), original.data_dir, survivor.data_dir)
    # The clocks of the trace and of the clients are read a little apart.
    promised = max((revision for moment, revision in moments if moment < calls[number].time - 0.002), default=1)
    what = f"after call {number} of {len(calls)}"
    try:
        survivor.start()
        survivor.wait_healthy(30)
        revision = survivor.status()["header"]["revision"]
        assert revision >= promised, f"{what}: revision {promised} was acknowledged, {revision} is there"
        found = survivor.hash_kv(revision)["hash"]
        assert found == hashes[revision], f"{what}: not what was written up to revision {revision}"
        survivor.kill()
    except AssertionError:
        os.environ["KEEP"] = "1"
        print(f"the disk is kept in {survivor.data_dir}")
        raise
    finally:
        if survivor.alive():
            survivor.kill()
    shutil.rmtree(survivor.data_dir)
    return promised


class Hashes(dict):
    """HashKV of the member that lost no power, by revision; asked for when first needed."""

    def __init__(self, member):
        super().__init__()
        self.member = member

    def __missing__(self, revision):
        self[revision] = self.member.hash_kv(revision)["hash"]
        return self[revision]


def power_loss(tools, implementation):
    if shutil.which("strace") is None:
        step("power loss: skipped: there is no strace")
        return
    trial = subprocess.run([*strace_command("/dev/null"), "true"], capture_output=True, env=clean_environment(),
                           timeout=20, preexec_fn=die_with_parent, check=False)
    if trial.returncode != 0:
        step(f"power loss: skipped: strace is not allowed here: {trial.stderr.decode().strip()}")
        return
    rng = tools.random("power loss")
    # Small segments and buffers are not to be had from outside; snapshots often enough that the log is cut.
    cluster = Cluster(implementation, 1, (*MEMBER_ARGS, "--snapshot-count=100"))
    original = TracedMember(cluster, "m0")
    cluster.found([original])
    with cluster, Scene(tools, cluster, "power loss") as scene:
        scene.ask("run")
        time.sleep(2 if tools.short else 15)
        scene.finish()
        moments = acknowledged(scene.history)
        started = time.monotonic()
        trace = Trace(original.trace_path, original.data_dir)
        calls = trace.calls
        assert moments and calls, "nothing was recorded"
        step(f"power loss: {len(calls)} calls recorded, {len(moments)} writes acknowledged, read in "
             f"{time.monotonic() - started:.1f} s")
        hashes = Hashes(original)
        cuts = 6 if tools.short else 60
        most = 0
        for index in range(cuts):
            number = rng.randrange(1, len(calls))
            most = max(most, check_cut(cluster, original, calls, number, moments, hashes, rng, index))
        step(f"power loss: {cuts} failures survived, up to {most} acknowledged revisions")
