"""What is measured. A scenario starts one cluster, brings it into a state, and takes some measures of it, each a dict
of figures under a name. It runs on kvd and on etcd alike, in alternating order.
"""
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "conformance"))
from lib.cluster import Cluster, clean_environment, die_with_parent  # noqa: E402

MIB = 1 << 20
QUOTA = "8589934592"  # etcd's ceiling
LARGE_QUOTA = str(64 << 30)


class Failed(Exception):
    pass


class Session:
    """One cluster of one implementation under a scenario, and kvbench pointed at it."""

    def __init__(self, kvbench, implementation, members, quota=QUOTA):
        self.kvbench = kvbench
        self.system = implementation.name
        self.cluster = Cluster(implementation, members, ["--log-level", "error", "--quota-backend-bytes", quota])
        self.measures = {}

    def __enter__(self):
        self.cluster.__enter__()
        return self

    def __exit__(self, *details):
        self.cluster.__exit__(*details)

    def words(self, command, *options, all_members=False):
        target = self.cluster.endpoints if all_members else self.cluster.leader().endpoint
        pids = ",".join(str(m.process.pid) for m in self.cluster.members if m.alive())
        return [self.kvbench, command, "--endpoints", target, "--pids", pids, *map(str, options)]

    def run(self, command, *options, timeout=400, all_members=False):
        words = self.words(command, *options, all_members=all_members)
        result = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
        if result.returncode != 0:
            raise Failed(f"{self.system}: {' '.join(words)}: {result.stderr.strip()}")
        return json.loads(result.stdout)

    def take(self, name, command, *options, **more):
        """Runs kvbench and keeps its report as measure `name`; one with errors in it is no measure."""
        report = self.run(command, *options, **more)
        if report.get("errors", 0) > 0 and command != "gap":
            raise Failed(f"{self.system}: {name}: {report['errors']} errors: {report.get('first_error')}")
        self.keep(name, report)
        return report

    def keep(self, name, report):
        self.measures[name] = report
        shown = ("ops_per_second", "p50_us", "p99_us", "cpu_us_per_op", "mib_per_second", "p99_ratio", "peak_mib",
                 "resident_mib", "ready_ms", "gap_ms", "cpu_percent", "more_mib")
        print(f"    {self.system:5} {name:24}", "  ".join(f"{k} {report[k]:.6g}" for k in shown if k in report), flush=True)

    def resident_mib(self):
        return sum(m.memory_bytes() for m in self.cluster.members) / MIB

    def cpu_seconds(self):
        total = 0
        for member in self.cluster.members:
            with open(f"/proc/{member.process.pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def disk_mib(self):
        total = 0
        for member in self.cluster.members:
            for directory, _, files in os.walk(member.data_dir):
                for name in files:
                    try:
                        total += os.stat(os.path.join(directory, name)).st_blocks * 512
                    except FileNotFoundError:
                        pass  # a file of the engine's that has just been replaced
        return total / MIB

    def revision(self):
        return self.cluster.leader().status()["header"]["revision"]


def window(seconds, warmup=1):
    return ["--seconds", seconds, "--warmup", warmup]


def hot(session, scale):
    """The lines that everything else is compared with: three members, 256-byte values."""
    session.run("fill", "--keys", 10_000)
    at = ["--keys", 10_000]
    session.take("put_256_in_flight", "put", *at, *window(3 * scale))
    session.take("put_1_client", "put", *at, "--connections", 1, "--streams", 1, *window(2 * scale, 0.5))
    session.take("get_linearizable", "get", *at, *window(2 * scale))
    session.take("get_serializable", "get", *at, "--serializable", *window(2 * scale))
    session.take("get_1_client", "get", *at, "--serializable", "--connections", 1, "--streams", 1, *window(1, 0.2))


def values(session, scale):
    """Puts of other sizes and orders."""
    for name, size in (("64", 64), ("4k", 4096), ("64k", 65536)):
        session.take(f"put_{name}", "put", "--keys", 10_000, "--value", size, *window(2 * scale))
    session.take("put_sequential", "put", "--keys", 1_000_000, "--sequential", *window(2 * scale))


def mix(session, scale):
    """Transactions."""
    session.take("apiserver", "apiserver", "--keys", 20_000, "--value", 1024, *window(3 * scale))
    session.take("txn_100_puts", "txn", "--keys", 20_000, "--connections", 4, "--streams", 4, *window(2 * scale))


def lists(session, scale):
    """100,000 keys of 256 bytes on one member."""
    keys = ["--keys", 100_000]
    session.run("fill", *keys)
    old = session.revision()
    session.run("fill", *keys)
    brief = window(2 * scale, 0.5)
    session.take("list_unary", "list", *keys, *brief)
    session.take("list_paged", "list", *keys, "--shape", "paged", *brief)
    if session.system == "kvd":  # etcd 3.4 has no such call: compared with its unary answer
        session.take("list_stream", "list", *keys, "--shape", "stream", *brief)
    session.take("list_old_revision", "list", *keys, "--revision", old, *brief)
    session.take("list_keys_only", "list", *keys, "--shape", "keys", *brief)
    session.take("slow_readers", "slow-reader", *keys, "--connections", 16, "--seconds", 2)
    if session.system == "kvd":
        session.take("slow_readers_stream", "slow-reader", *keys, "--connections", 16, "--seconds", 2, "--stream")


def watch(session, scale):
    """10,000 watchers on 100 streams of 10 connections; three members."""
    brief = window(3 * scale)
    session.take("watch_one_key", "watch", "--keys", 1, *brief)
    session.take("watch_100_keys", "watch", "--keys", 100, "--rate", 1000, *brief)
    session.take("watch_10k_keys", "watch", "--keys", 10_000, "--rate", 1000, *brief)


def leases(session, scale):
    session.take("lease_grant", "lease-grant", "--first", 1_000_000, *window(2 * scale))
    session.run("lease-grant", "--first", 10_000_000, "--count", 100_000)
    session.take("keepalive_100k", "keepalive", "--first", 10_000_000, "--leases", 100_000, *window(2 * scale))


def during(session, scale):
    """Puts that are due 1,000 times a second, at rest and beside something large; three members, 100,000 keys."""
    keys = ["--keys", 100_000, "--rate", 1000]
    session.run("fill", "--keys", 100_000)
    session.run("fill", "--keys", 100_000)
    for activity in ("compact", "list", "snapshot"):
        session.take(f"put_beside_{activity}", "during", *keys, "--activity", activity, *window(4 * scale))


def restart(session, member, name, how):
    """Ends the member, starts it again, and measures how soon it answers a linearizable read."""
    if how == "kill":
        member.kill()
    else:
        member.stop(120)
    words = [session.kvbench, "ready", "--endpoints", member.endpoint, "--timeout", "300"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
                          env=clean_environment()) as probe:
        member.start()
        report = json.loads(probe.communicate(timeout=310)[0])
    if not report["served"]:
        raise Failed(f"{session.system}: {name}: not ready")
    report["resident_mib"] = session.resident_mib()
    session.keep(name, report)


def filled(session, keys, name):
    """Every key once, 100 to a transaction; then what the memory is, at once and at rest."""
    report = session.run("fill", "--keys", keys, "--batch", 100, "--connections", 4, "--streams", 8, timeout=900)
    if report["errors"]:
        raise Failed(f"{session.system}: fill: {report['first_error']}")
    time.sleep(2)
    report["resident_mib"] = session.resident_mib()
    report["disk_mib"] = session.disk_mib()
    session.keep(name, report)
    return report


def million(session, scale):
    """One member with 1,000,000 keys of 256 bytes."""
    start = session.revision()
    filled(session, 1_000_000, "fill_1m")
    session.take("count_1m", "list", "--shape", "count", "--keys", 1_000_000, *window(1, 0.2))
    session.take("catch_up_1m", "catch-up", "--from", start + 1, "--events", 1_000_000)
    restart(session, session.cluster.members[0], "restart_1m", "stop")
    restart(session, session.cluster.members[0], "restart_1m_killed", "kill")


def ten_million(session, scale):
    """One member with 10,000,000 keys of 64 bytes."""
    report = session.run("fill", "--keys", 10_000_000, "--value", 64, "--batch", 100, "--connections", 4, "--streams", 8,
                         timeout=900)
    report["resident_mib"] = session.resident_mib()
    session.keep("fill_10m", report)
    restart(session, session.cluster.members[0], "restart_10m", "stop")


def failover(session, scale):
    """The leader is killed under load."""
    leader = session.cluster.leader()
    words = session.words("gap", "--seconds", "6", all_members=True)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent) as load:
        time.sleep(1.5)
        leader.signal(signal.SIGKILL)
        report = json.loads(load.communicate(timeout=60)[0])
    leader.process.wait(10)
    session.keep("failover_gap", report)


def idle(session, scale):
    """What it costs to do nothing."""
    time.sleep(2)
    seconds = 5 * scale
    before = session.cpu_seconds()
    time.sleep(seconds)
    used = session.cpu_seconds() - before
    session.keep("idle", {"cpu_percent": used / seconds * 100, "resident_mib": session.resident_mib()})
    session.take("idle_1000_connections", "idle", "--connections", 1000, *window(5 * scale), all_members=True)


def large(session, scale):
    """30 GB of live data on one member: values of 10 KB, scaled as asked for. Such values stand on disk
    once; compactions take room besides. Beside large work puts are due at a fixed rate, so that a stall
    would show."""
    keys = int(3_000_000 * scale)
    report = session.run("fill", "--keys", keys, "--value", 10_240, "--connections", 4, "--streams", 16,
                         "--series", 10, timeout=3000)
    report["resident_mib"] = session.resident_mib()
    report["disk_mib"] = session.disk_mib()
    session.keep("large_fill", report)
    session.take("large_put", "put", "--keys", keys, "--value", 10_240, "--rate", 1000, "--streams", 4, *window(10))
    session.take("large_list_paged", "list", "--keys", keys, "--shape", "paged", *window(60 * scale, 0))
    session.take("large_count", "list", "--keys", keys, "--shape", "count", *window(1, 0))
    session.take("large_put_beside_compaction", "during", "--keys", keys, "--value", 10_240, "--rate", 500,
                 "--activity", "compact", *window(20))
    restart(session, session.cluster.members[0], "large_restart", "stop")


class Scenario:
    def __init__(self, run, members, only=None, quota=QUOTA):
        self.run = run
        self.members = members
        self.systems = only or ("kvd", "etcd")
        self.quota = quota


SCENARIOS = {
    "hot": Scenario(hot, 3),
    "values": Scenario(values, 3),
    "mix": Scenario(mix, 3),
    "list": Scenario(lists, 1),
    "watch": Scenario(watch, 3),
    "lease": Scenario(leases, 3),
    "during": Scenario(during, 3),
    "failover": Scenario(failover, 3),
    "idle": Scenario(idle, 3),
    "million": Scenario(million, 1),
    "ten-million": Scenario(ten_million, 1),
    "large": Scenario(large, 1, only=("kvd",), quota=LARGE_QUOTA),
}
