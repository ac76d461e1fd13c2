"""Clusters of real processes on loopback, for one test.

    with Cluster(Implementation("kvd", bin_dir), size=3) as cluster:
        cluster.etcdctl("put", "k", "v")
        cluster.leader().kill()

Every wait is bounded. Whatever happens, the processes end with the test (also if the test itself is killed) and
their directories are removed; KEEP=1 in the environment keeps them.
"""
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

READY_TIMEOUT = 60
# Below the range that outgoing connections take their ports from, so that a member's port stays free while it is
# down.
PORTS = range(20000, 30000)

_taken = set()


def free_port():
    while True:
        port = random.choice(PORTS)
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port


def die_with_parent():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def wait_until(what, condition, timeout, pause=0.05):
    """Polls until condition() is truthy and returns it; AssertionError with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(pause)


class Implementation:
    """Which server to start: "kvd" from a build's bin directory, or the system's "etcd"."""

    def __init__(self, name, bin_dir=None):
        self.name = name
        self.binary = os.path.join(bin_dir, "kvd") if name == "kvd" else shutil.which("etcd")

    def available(self):
        return self.binary is not None and os.access(self.binary, os.X_OK)


class Member:
    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self.data_dir = os.path.join(cluster.directory, name + ".etcd")
        self.log_path = os.path.join(cluster.directory, name + ".log")
        self.client_port = free_port()
        self.peer_port = free_port()
        self.process = None
        self.paused = False
        self.extra_args = []
        # --initial-cluster of a member that joins a running cluster; the founders have that of the cluster.
        self.joins = None

    @property
    def client_url(self):
        return f"http://127.0.0.1:{self.client_port}"

    @property
    def peer_url(self):
        return f"http://127.0.0.1:{self.peer_port}"

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.client_port}"

    def command(self):
        cluster = self.cluster
        return [
            cluster.implementation.binary,
            "--name", self.name,
            "--data-dir", self.data_dir,
            "--listen-client-urls", self.client_url,
            "--advertise-client-urls", self.client_url,
            "--listen-peer-urls", self.peer_url,
            "--initial-advertise-peer-urls", self.peer_url,
            "--initial-cluster", self.joins or ",".join(f"{m.name}={m.peer_url}" for m in cluster.founders),
            "--initial-cluster-state", "existing" if self.joins else "new",
            *cluster.args,
            *self.extra_args,
        ]

    def start(self):
        assert not self.alive(), f"{self.name} runs already"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent, env=clean_environment())
        self.paused = False

    def ended(self, timeout=30):
        """Waits until the process ends by itself, and returns its exit code."""
        return self.process.wait(timeout)

    def wal(self):
        """The paths of the log's segments, in order."""
        directory = os.path.join(self.data_dir, "member", "wal")
        return [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name.endswith(".wal")]

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def healthy(self):
        if not self.alive():
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log_tail()}")
        try:
            with urllib.request.urlopen(self.client_url + "/health", timeout=2) as response:
                return json.load(response).get("health") == "true"
        except (OSError, ValueError, urllib.error.URLError):
            return False

    def wait_healthy(self, timeout=READY_TIMEOUT):
        try:
            wait_until(f"{self.name} is healthy", self.healthy, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None

    def kill(self):
        """SIGKILL: no goodbye, nothing flushed."""
        self.signal(signal.SIGKILL)
        self.process.wait(10)
        self.paused = False

    def pause(self):
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        self.signal(signal.SIGCONT)
        self.paused = False

    def stop(self, timeout=20):
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def signal(self, number):
        assert self.alive(), f"{self.name} is not running:\n{self.log_tail()}"
        os.kill(self.process.pid, number)

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def log_tail(self, lines=25):
        return "\n".join(self.log().splitlines()[-lines:])

    def memory_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def status(self, timeout=5):
        """The Status response as etcdctl's JSON has it, or None if the member does not answer."""
        result = self.cluster.etcdctl("endpoint", "status", "-w", "json", endpoint=self, check=False, timeout=timeout)
        if result.returncode != 0 or not result.stdout.strip():
            return None
        return json.loads(result.stdout)[0]["Status"]

    def hash_kv(self, revision=0):
        result = self.cluster.etcdctl("endpoint", "hashkv", "--rev", str(revision), "-w", "json", endpoint=self)
        return json.loads(result.stdout)[0]["HashKV"]


def clean_environment():
    """Without what would change what a server or client does."""
    hidden = ("ETCD_", "ETCDCTL_", "KVD_", "KVCTL_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    environment["ETCDCTL_API"] = "3"
    return environment


class Cluster:
    def __init__(self, implementation, size=1, args=()):
        self.implementation = implementation
        self.args = list(args)
        self.directory = tempfile.mkdtemp(prefix=f"{implementation.name}-cluster-")
        self.found([Member(self, f"m{i}") for i in range(size)])

    def found(self, members):
        """Makes `members` those that the cluster starts with, before it does."""
        self.members = members
        self.founders = list(members)

    def __enter__(self):
        try:
            for member in self.members:
                member.start()
            for member in self.members:
                member.wait_healthy()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, exception_type, exception, trace):
        if exception is not None:
            for member in self.members:
                print(f"--- log of {member.name}\n{member.log_tail()}", file=sys.stderr)
        self.close()

    def close(self):
        for member in self.members:
            if member.alive():
                os.kill(member.process.pid, signal.SIGKILL)
                member.process.wait(10)
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)

    def spare(self, name):
        """A member that is not started yet; it belongs to `members` once the test puts it there."""
        return Member(self, name)

    def kvctl(self, *args, endpoint=None, check=True, timeout=60):
        """Runs kvctl against one member, or against those that run."""
        endpoints = endpoint.endpoint if endpoint else ",".join(m.endpoint for m in self.members if m.alive())
        command = [os.path.join(os.path.dirname(self.implementation.binary), "kvctl"), "--endpoints", endpoints, *args]
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=clean_environment())
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {result.returncode}:\n{result.stderr}")
        return result

    def member_ids(self, endpoint=None):
        """name -> ID in hexadecimal; unstarted ones under their ID."""
        rows = self.kvctl("member", "list", endpoint=endpoint).stdout.splitlines()
        return {row.split(", ")[2] or row.split(", ")[0]: row.split(", ")[0] for row in rows}

    @property
    def endpoints(self):
        return ",".join(member.endpoint for member in self.members)

    def etcdctl(self, *args, endpoint=None, check=True, timeout=30, stdin=None):
        """Runs etcdctl (API 3) against one member, or against all of them in turn."""
        endpoints = endpoint.endpoint if endpoint else self.endpoints
        command = ["etcdctl", "--endpoints", endpoints, *args]
        result = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout,
                                env=clean_environment())
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {result.returncode}:\n{result.stderr}")
        return result

    def leader(self, timeout=READY_TIMEOUT):
        def find():
            for member in self.members:
                if not member.alive() or member.paused:
                    continue
                status = member.status()
                if status and status.get("leader") == status["header"]["member_id"]:
                    return member
            return None

        return wait_until("a leader", find, timeout)

    def follower(self):
        leader = self.leader()
        return next(member for member in self.members if member is not leader)

    def wait_equal(self, timeout=60):
        """Waits until all members have the same revision, and returns it; then their HashKV must be equal."""
        seen = {}

        def revisions():
            for member in self.members:
                status = member.status()
                seen[member.name] = status and (status["header"].get("revision"), status.get("raftAppliedIndex"))
            found = {state and state[0] for state in seen.values()}
            return found.pop() if len(found) == 1 else None

        try:
            revision = wait_until("equal revisions on all members", revisions, timeout, pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; (revision, applied index): {seen}") from None
        hashes = {(h["hash"], h.get("compact_revision", 0)) for h in (m.hash_kv(revision) for m in self.members)}
        assert len(hashes) == 1, f"HashKV differs at revision {revision}: {hashes}"
        return revision
