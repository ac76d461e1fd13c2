"""What the drills share: a cluster under recorded load, and the verdict about its history."""
import os
import random
import subprocess
import sys
import tempfile
import time

from lib.cluster import clean_environment, die_with_parent

ELECTION_TIMEOUT = 1.0
# Watches tell of their progress every second, so that a silent one is known to be dead.
MEMBER_ARGS = ("--watch-progress-notify-interval=1s",)


class Tools:
    """The programs of a build, and the seed."""

    def __init__(self, bin_dir, seed, short):
        self.bin_dir = os.path.abspath(bin_dir)
        self.clients = os.path.join(self.bin_dir, "drill_clients")
        self.checker = os.path.join(self.bin_dir, "kvd-check-history")
        self.killload = os.path.join(self.bin_dir, "conformance_killload")
        self.seed = seed
        self.short = short

    def random(self, drill):
        return random.Random(f"{self.seed} {drill}")


_start = time.monotonic()


def step(text):
    print(f"[{time.monotonic() - _start:7.2f}] {text}", flush=True)


class Scene:
    """Clients on a cluster. At the end the history is checked; it is kept if something is wrong."""

    def __init__(self, tools, cluster, name, clients=8):
        self.tools = tools
        self.cluster = cluster
        self.name = name
        handle, self.history = tempfile.mkstemp(prefix=f"kvd-drill-{name}-", suffix=".jsonl")
        os.close(handle)
        self.process = subprocess.Popen(
            [tools.clients, cluster.endpoints, self.history, str(clients), str(tools.seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
            # Requests that fail at once leave nobody in gRPC to see a connection through while all of them are down.
            env={**clean_environment(), "GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS": "50"})

    def __enter__(self):
        return self

    def __exit__(self, exception_type, exception, trace):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        if exception is None:
            os.unlink(self.history)
        else:
            print(f"the history is kept in {self.history}", file=sys.stderr)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer and not answer.startswith("failed"), f"{command}: {answer or 'the clients have ended'}"
        return answer

    def silence(self):
        """Seconds: the longest time without an acknowledged put since `mark`."""
        return int(self.ask("silence")) / 1000

    def wait_for_writes(self, timeout=20):
        """Until puts are acknowledged again."""
        deadline = time.monotonic() + timeout
        while True:
            self.ask("mark")
            time.sleep(0.3)
            if self.silence() < 0.3:
                return
            assert time.monotonic() < deadline, f"no write was acknowledged within {timeout} s"

    def finish(self):
        """Stops the load, waits until all is quiet, and has the history checked."""
        self.ask("stop")
        for member in self.cluster.members:
            member.wait_healthy()
        self.ask("settle")
        self.process.communicate("quit\n", timeout=30)
        self.check()

    def check(self):
        result = subprocess.run([self.tools.checker, self.history], capture_output=True, text=True, timeout=300)
        size = os.path.getsize(self.history) / 1e6
        assert result.returncode == 0, f"{self.name}: {result.stdout}{result.stderr}"
        step(f"{self.name}: {result.stdout.strip()} ({size:.1f} MB)")
