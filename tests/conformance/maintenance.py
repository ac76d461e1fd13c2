"""Backups go from the server under test to a real etcd; and what a cluster without authentication says of it."""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment, wait_until

try:
    import grpc
except ImportError:
    grpc = None

VALUE = "x" * 100_000
CHUNK = 32 * 1024

AUTH_COMMANDS = [
    "auth enable", "auth disable", "user list", "user list -w json", "user get x", "user delete x", "role list",
    "role get x", "role delete x", "role grant-permission x read foo", "role revoke-permission x foo",
    "user grant-role a b", "user revoke-role a b", "--user a:b get x",
]


def etcdctl(*args):
    return subprocess.run(["etcdctl", *args], env=clean_environment(), capture_output=True, text=True, timeout=60)


def snapshot(args, etcd):
    with Cluster(args.implementation) as cluster:
        for i in range(30):
            cluster.etcdctl("put", f"k{i % 20}", VALUE + str(i))
        lease = cluster.etcdctl("lease", "grant", "1000").stdout.split()[1]
        cluster.etcdctl("put", "leased", "v", f"--lease={lease}")
        cluster.etcdctl("del", "k3")
        cluster.etcdctl("compact", "10")
        path = os.path.join(cluster.directory, "saved.db")
        cluster.etcdctl("snapshot", "save", path)
        assert os.path.getsize(path) % 512 == 32, "a database and its SHA-256"
        status = etcdctl("snapshot", "status", path).stdout.split(", ")
        assert status[1] == "33", status
        snap = os.path.join(cluster.members[0].data_dir, "member", "snap")
        assert not [name for name in os.listdir(snap) if name.startswith("tmp")], os.listdir(snap)
        wanted = cluster.members[0].hash_kv()["hash"]

        with restored(etcd, path) as other:
            assert other.members[0].hash_kv()["hash"] == wanted, "HashKV after the restoration"
            assert other.etcdctl("get", "k4").stdout.split("\n")[1] == VALUE + "24"
            assert other.etcdctl("get", "k3").stdout == ""
            keys = other.etcdctl("lease", "timetolive", lease, "--keys").stdout
            assert "leased" in keys, keys
            other.etcdctl("put", "after", "1")
        testing.step("a snapshot of 2 MB, restored into etcd with equal HashKV")

        with open(path, "r+b") as damaged:
            damaged.seek(70_000)
            damaged.write(b"\xff\x00\xff\x00")
        refused = etcdctl("snapshot", "restore", path, "--data-dir", os.path.join(cluster.directory, "no"))
        assert refused.returncode != 0 and "sha256" in refused.stderr, refused.stderr
        testing.step("a damaged copy of it is noticed")


def restored(implementation, path):
    cluster = Cluster(implementation)
    member = cluster.members[0]
    done = etcdctl("snapshot", "restore", path, "--name", member.name, "--data-dir", member.data_dir,
                   "--initial-cluster", f"{member.name}={member.peer_url}",
                   "--initial-advertise-peer-urls", member.peer_url)
    assert done.returncode == 0, done.stderr
    return cluster


def large_snapshot_to_a_client_that_leaves(args):
    with Cluster(args.implementation) as cluster:
        for i in range(60):
            cluster.etcdctl("put", f"k{i}", stdin="y" * 1_000_000)
        before = cluster.members[0].memory_bytes()
        saving = subprocess.Popen(["etcdctl", "--endpoints", cluster.endpoints, "snapshot", "save",
                                   os.path.join(cluster.directory, "partial.db")], env=clean_environment(),
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            saving.wait(0.05)
        except subprocess.TimeoutExpired:
            saving.kill()
            saving.wait(10)
        cluster.etcdctl("put", "still", "serving")
        path = os.path.join(cluster.directory, "whole.db")
        cluster.etcdctl("snapshot", "save", path)
        assert etcdctl("snapshot", "status", path).returncode == 0
        grown = cluster.members[0].memory_bytes() - before
        assert grown < 200 << 20, f"grew by {grown}"
        snap = os.path.join(cluster.members[0].data_dir, "member", "snap")
        assert not [name for name in os.listdir(snap) if name.startswith("tmp")], os.listdir(snap)
        testing.step("a client that left and one that did not")


def told(cluster, command):
    result = cluster.etcdctl(*command.split(), endpoint=cluster.members[0], check=False)
    errors = re.findall(r"desc = ([^\"\n]*)", result.stderr)
    out = re.sub(r'"(cluster_id|member_id|raft_term)":\d+', "", result.stdout)
    return result.returncode, out, errors[-1] if errors else ""


def without_authentication(args, etcd):
    with Cluster(etcd) as reference, Cluster(args.implementation) as tested:
        for command in AUTH_COMMANDS:
            expected, actual = told(reference, command), told(tested, command)
            assert expected == actual, f"{command}: expected {expected}, got {actual}"
    testing.step(f"{len(AUTH_COMMANDS)} commands about users and roles answered alike")


def rpc(member, method, payload=b""):
    """One call with raw bytes: (code name, details or the answer)."""
    with grpc.insecure_channel(member.endpoint, options=[("grpc.enable_http_proxy", 0)]) as channel:
        unary = channel.unary_unary("/etcdserverpb.Maintenance/" + method, request_serializer=bytes,
                                    response_deserializer=bytes)
        try:
            return "OK", unary(payload, timeout=20)
        except grpc.RpcError as error:
            return error.code().name, error.details()


def hash_of(member):
    """HashResponse.hash, the second field."""
    code, answer = rpc(member, "Hash")
    assert code == "OK", answer
    rest = answer[2 + answer[1]:]  # behind the header
    assert rest[0] == 2 << 3, answer
    value, shift = 0, 0
    for byte in rest[1:]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value
    raise AssertionError(answer)


def hashes(args):
    with Cluster(args.implementation, 3) as cluster:
        seen = set()
        for i in range(3):
            cluster.etcdctl("put", "hashed", str(i))
            cluster.wait_equal()
            if args.implementation.name == "kvd":  # etcd's holds how far each member has applied its log
                found = {hash_of(member) for member in cluster.members}
                assert len(found) == 1, found
            seen.add(hash_of(cluster.members[0]))
        assert len(seen) == 3, seen
    testing.step("Hash of the whole store: equal on all members, another after each write")


def downgrade(args):
    validate, enable, cancel = b"", b"\x08\x01", b"\x08\x02"

    def version(text):
        return b"\x12" + bytes([len(text)]) + text.encode()

    with Cluster(args.implementation, 3) as cluster:
        wait_until("a cluster version", lambda: cluster.etcdctl("endpoint", "status").returncode == 0 and
                   rpc(cluster.members[0], "Downgrade", validate + version("3.6.0"))[0] == "OK", 30, 0.5)
        for member in cluster.members:
            for action, target, code, text in (
                    (validate, "abc", "INVALID_ARGUMENT", "etcdserver: wrong downgrade target version format"),
                    (validate, "3.7.0", "INVALID_ARGUMENT", "etcdserver: invalid downgrade target version"),
                    (validate, "3.5.0", "INVALID_ARGUMENT", "etcdserver: invalid downgrade target version"),
                    (validate, "3.8.0", "INVALID_ARGUMENT", "etcdserver: invalid downgrade target version"),
                    (enable, "3.5.0", "INVALID_ARGUMENT", "etcdserver: invalid downgrade target version")):
                got = rpc(member, "Downgrade", action + version(target))
                assert got == (code, text), (target, got)
            assert rpc(member, "Downgrade", cancel)[0] == "OK", "nothing to cancel is no error"
        code, answer = rpc(cluster.members[1], "Downgrade", enable + version("3.6.0"))
        assert code == "OK" and b"3.7" in answer, (code, answer)
        wait_until("every member knows", lambda: all(
            rpc(m, "Downgrade", validate + version("3.6.0")) ==
            ("FAILED_PRECONDITION", "etcdserver: cluster has a downgrade job in progress") for m in cluster.members), 10)
        assert rpc(cluster.members[2], "Downgrade", cancel)[0] == "OK"
        wait_until("it is over", lambda: all(
            rpc(m, "Downgrade", validate + version("3.6.0"))[0] == "OK" for m in cluster.members), 10)
    testing.step("Downgrade: validated, enabled and cancelled in etcd's words")


def orderly_stop(args):
    with Cluster(args.implementation) as cluster:
        for i in range(50):
            cluster.etcdctl("put", f"k{i}", "v")
        member = cluster.members[0]
        member.stop()
        saved = [json.loads(line) for line in member.log().splitlines() if '"saved snapshot"' in line]
        assert saved and saved[-1]["snapshot-index"] >= 50, saved
        member.start()
        member.wait_healthy()
        assert len(cluster.etcdctl("get", "k", "--prefix", "--keys-only").stdout.split()) == 50
    testing.step("after an orderly stop the next start reads nothing twice")


def main():
    args = testing.arguments(__doc__)
    etcd = testing.real_etcd()
    snapshot(args, etcd)
    large_snapshot_to_a_client_that_leaves(args)
    without_authentication(args, etcd)
    if grpc is None:
        testing.skip("there is no python3-grpcio")
    hashes(args)
    if args.implementation.name == "kvd":  # etcd 3.4 has none
        downgrade(args)
        orderly_stop(args)


if __name__ == "__main__":
    main()
