"""Debian's etcdctl says the same to the server under test as to a real etcd: every command, on one member and on
the leader and a follower of three."""
import json
import os
import re
import select
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment, die_with_parent

# What no two clusters share.
VOLATILE_JSON = {"cluster_id", "member_id", "raft_term", "ID", "leader", "raftIndex", "raftTerm", "raftAppliedIndex",
                 "dbSize", "dbSizeInUse", "version", "peerURLs", "clientURLs", "name", "Endpoint", "took", "endpoint",
                 "storageVersion", "dbSizeQuota", "downgradeInfo", "id", "hash_revision"}


def strip(value):
    if isinstance(value, dict):
        return {k: strip(v) for k, v in value.items() if k not in VOLATILE_JSON}
    if isinstance(value, list):
        return [strip(v) for v in value]
    return value


class Scenario:
    """Runs commands on one endpoint and keeps what a client sees of each."""

    def __init__(self, cluster, member):
        self.cluster = cluster
        self.member = member
        self.transcript = []
        self.leases = []

    def normalise(self, text):
        for lease in self.leases:
            text = text.replace(lease, "LEASE")
        text = re.sub(r"127\.0\.0\.1:\d+", "ENDPOINT", text)
        text = re.sub(r"took = \S+", "took = T", text)
        # etcd lists the keys of a lease in the order of a hash table.
        text = re.sub(r"attached keys\(\[(.*?)\]\)", lambda keys: f"attached keys({sorted(keys[1].split())})", text)
        # The client's own log lines hold times and addresses.
        lines = [line for line in text.splitlines() if not line.startswith('{"level"')]
        return "\n".join(lines)

    def run(self, *args, stdin=None):
        result = self.cluster.etcdctl(*args, endpoint=self.member, check=False, stdin=stdin)
        stdout = result.stdout
        if "-w" in args and args[args.index("-w") + 1] == "json" and stdout.strip():
            stdout = json.dumps(strip(json.loads(stdout)), sort_keys=True)
        self.record(args, stdout, result.stderr, result.returncode)
        return result.stdout

    def record(self, args, stdout, stderr, code):
        command = self.normalise(" ".join(args))
        self.transcript.append((command, self.normalise(stdout), self.normalise(stderr), code))

    def watch(self, *args, lines, stdin=None, meanwhile=None):
        """Runs a watch, and `meanwhile` beside it, until it has printed so many lines, and keeps those."""
        command = ["etcdctl", "--endpoints", self.member.endpoint, "watch", *args]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=clean_environment(), preexec_fn=die_with_parent)
        if stdin:
            process.stdin.write(stdin.encode())
            process.stdin.flush()
        if meanwhile:
            meanwhile()
        output, deadline = b"", time.monotonic() + 20
        while output.count(b"\n") < lines and time.monotonic() < deadline:
            if select.select([process.stdout], [], [], 0.1)[0]:
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                output += chunk
        process.kill()
        process.communicate()
        kept = output.decode().split("\n")[:lines]
        self.record(("watch",) + args, "\n".join(kept), "", 0)

    def grant(self, ttl):
        out = self.cluster.etcdctl("lease", "grant", str(ttl), endpoint=self.member).stdout
        self.leases.append(out.split()[1])
        self.record(("lease", "grant", str(ttl)), out, "", 0)
        return out.split()[1]


def keys(s):
    s.run("put", "a", "1")
    s.run("put", "a", "2", "--prev-kv")
    s.run("put", "b", "x", "-w", "json")
    s.run("put", "b", "--ignore-value")
    s.run("put", "none", "--ignore-value")
    s.run("put", "stdin", stdin="from stdin")
    s.run("put", "empty", "")
    s.run("put", "bin\tary", "v\"\\\x01é")
    for i in range(12):
        s.run("put", f"p/{i:02d}", f"value {i * 7 % 5}")
    s.run("put", "p/03", "again")
    for output in ("simple", "json"):
        s.run("get", "a", "-w", output)
        s.run("get", "missing", "-w", output)
        s.run("get", "p/", "--prefix", "-w", output)
        s.run("get", "p/", "--prefix", "--keys-only", "-w", output)
        s.run("get", "p/", "--prefix", "--limit", "3", "-w", output)
        s.run("get", "p/", "--prefix", "--rev", "12", "-w", output)
        s.run("get", "p/05", "--from-key", "-w", output)
        s.run("get", "p/02", "p/06", "-w", output)
        s.run("get", "", "--prefix", "-w", output)
        s.run("get", "", "--from-key", "-w", output)
        s.run("get", "p/06", "p/02", "-w", output)
        s.run("get", "a", "--consistency", "s", "-w", output)
        for order in ("ASCEND", "DESCEND"):
            for target in ("CREATE", "KEY", "MODIFY"):
                s.run("get", "p/", "--prefix", "--order", order, "--sort-by", target, "--limit", "5", "-w", output)
    s.run("get", "p/", "--prefix", "--print-value-only")
    s.run("get", "a", "--hex")
    s.run("get", "a", "--rev", "100000")
    s.run("get", "")
    s.run("del", "a", "--prev-kv")
    s.run("del", "a")
    s.run("del", "p/00", "p/03")
    s.run("del", "p/", "--prefix", "--prev-kv", "-w", "json")
    s.run("get", "p/", "--prefix", "--rev", "12", "--keys-only")


def transactions(s):
    s.run("txn", stdin='version("t") = "0"\n\nput t 1\nget t\n\nput t 2\n\n')
    s.run("txn", stdin='version("t") = "0"\n\nput t 1\n\nput t 3\nget t\ndel missing\n\n')
    s.run("txn", "-i", stdin='value("t") = "3"\nmod("t") > "0"\ncreate("t") < "100"\n\nget "" --prefix\n\n\n')
    s.run("txn", stdin='value("nokey") != "3"\n\nput t yes\n\nput t no\n\n')
    s.run("txn", stdin='version("nokey") < "1"\n\nput u 1\ndel t\nput v 2\nget u v --prefix\n\n\n')
    s.run("txn", stdin='\nput same 1\nput same 2\n\n\n')
    s.run("txn", stdin='\nput same 1\ndel same\n\n\n')
    s.run("txn", stdin='\nget u --rev 100000\n\n\n')
    s.run("txn", stdin='\n\n\n')
    s.run("get", "", "--prefix", "-w", "json")


def hashes(s):
    s.run("endpoint", "hashkv", "-w", "json")
    s.run("endpoint", "hashkv", "-w", "json", "--rev", "10")
    s.run("endpoint", "hashkv", "-w", "json", "--rev", "100000")


def watches(s):
    s.watch("", "--prefix", "--rev", "2", lines=40)
    s.watch("a", "--rev", "1", "--prev-kv", lines=11)
    s.watch("p/", "--prefix", "--rev", "8", "--prev-kv", lines=60)
    s.watch("p/01", "p/04", "--rev", "2", lines=9)
    s.watch("-i", stdin="watch b --rev 1 --prev-kv\n", lines=8)
    revision = json.loads(s.run("put", "live", "0", "-w", "json"))["header"]["revision"]
    # A revision that is still to come: the watcher waits for it.
    def change():
        s.run("put", "live", "1")
        s.run("put", "live", "2")
        s.run("del", "live")

    s.watch("live", "--rev", str(revision + 2), "--prev-kv", lines=10, meanwhile=change)


def leases(s):
    lease = s.grant(600)
    other = s.grant(1)
    s.run("put", "l/1", "v", "--lease", lease)
    s.run("put", "l/2", "v", "--lease", lease)
    s.run("put", "l/3", "v", "--lease", other)
    s.run("lease", "timetolive", lease, "--keys")
    s.run("lease", "timetolive", "1234")
    s.run("lease", "keep-alive", "--once", lease)
    s.run("lease", "keep-alive", "--once", "1234")
    s.run("put", "l/4", "v", "--lease", "1234")
    listed = s.cluster.etcdctl("lease", "list", endpoint=s.member).stdout.splitlines()
    assert listed[0] == f"found {len(listed) - 1} leases" and lease in listed, listed
    # The short one ends by itself, whatever it was raised to.
    deadline = time.monotonic() + 20
    while s.cluster.etcdctl("get", "l/3", endpoint=s.member).stdout and time.monotonic() < deadline:
        time.sleep(0.2)
    s.run("get", "l/", "--prefix")
    s.run("lease", "timetolive", other)
    s.run("lease", "revoke", lease)
    s.run("lease", "revoke", lease)
    s.run("get", "l/", "--prefix", "-w", "json")
    s.run("lease", "list")
    s.run("lease", "grant", "99999999999")


def compactions(s):
    revision = json.loads(s.cluster.etcdctl("put", "c", "1", "-w", "json", endpoint=s.member).stdout)["header"]["revision"]
    s.run("compaction", str(revision + 100))
    s.run("compaction", str(revision), "--physical")
    s.run("compaction", str(revision))
    s.run("get", "c", "--rev", str(revision - 1))
    s.run("get", "c", "--rev", str(revision))
    s.watch("c", "--rev", "1", lines=0)
    s.run("put", "c", "2")
    s.run("endpoint", "hashkv", "-w", "json")


def members(s):
    listed = json.loads(s.cluster.etcdctl("member", "list", "-w", "json", endpoint=s.member).stdout)
    assert len(listed["members"]) == len(s.cluster.members), listed
    for member in s.cluster.members:
        entry = next(m for m in listed["members"] if m["name"] == member.name)
        assert entry["clientURLs"] == [member.client_url] and entry["peerURLs"] == [member.peer_url], entry
    s.run("endpoint", "health")
    status = s.member.status()
    assert status["header"]["member_id"] and status["leader"] and status["raftTerm"] > 0, status
    assert status["raftIndex"] > 0 and status["dbSize"] > 0, status
    s.run("alarm", "list")
    everyone = json.loads(s.cluster.etcdctl("endpoint", "status", "--cluster", "-w", "json", endpoint=s.member).stdout)
    assert len(everyone) == len(s.cluster.members) and len({e["Status"]["leader"] for e in everyone}) == 1, everyone
    hashes_now = {m.hash_kv(status["header"]["revision"])["hash"] for m in s.cluster.members}
    assert len(hashes_now) == 1, hashes_now


STEPS = (keys, transactions, hashes, watches, leases, compactions, members)


def transcript(implementation, size, role):
    with Cluster(implementation, size) as cluster:
        member = cluster.leader() if role == "leader" else cluster.follower()
        scenario = Scenario(cluster, member)
        for run in STEPS:
            run(scenario)
        return scenario.transcript


def compare(title, expected, actual):
    differences = 0
    for wanted, got in zip(expected, actual):
        if wanted == got:
            continue
        differences += 1
        print(f"{title}: {wanted[0]!r}\n  etcd: {wanted[1:]}\n  here: {got[1:]}")
    assert len(expected) == len(actual), f"{title}: {len(expected)} commands became {len(actual)}"
    return differences


def main():
    args = testing.arguments(__doc__)
    expected = transcript(testing.real_etcd(), 1, "leader")
    testing.step(f"{len(expected)} commands on a real etcd")
    differences = 0
    for size, role in ((1, "leader"), (3, "leader"), (3, "follower")):
        title = f"{args.impl}, {size} members, {role}"
        differences += compare(title, expected, transcript(args.implementation, size, role))
        testing.step(title)
    assert differences == 0, f"{differences} commands differ"


if __name__ == "__main__":
    main()
