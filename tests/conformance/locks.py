"""v3lock and v3election on a real etcd and on the server under test: the same answers and errors, in the same order."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, wait_until

try:
    import grpc
except ImportError:
    grpc = None

LOCK = "/v3lockpb.Lock/"
ELECTION = "/v3electionpb.Election/"


def varint(n):
    out = b""
    n &= 2**64 - 1
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def message(**fields):
    """f1=b"..." or f1=5: an encoded message."""
    out = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            out += varint(number << 3) + varint(value)
    return out


def parse(data):
    """field number -> value, of the last one."""
    fields, at = {}, 0

    def number():
        nonlocal at
        result = shift = 0
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            fields[tag >> 3] = number()
        else:
            length = number()
            fields[tag >> 3] = data[at:at + length]
            at += length
    return fields


class Server:
    """Every call is noted: what came back, without what names the cluster."""

    def __init__(self, cluster, endpoint):
        self.cluster = cluster
        self.channel = grpc.insecure_channel(endpoint, options=[("grpc.enable_http_proxy", 0)])
        self.notes = []

    def start(self, method, request):
        return self.channel.unary_unary(method).future(request, timeout=20)

    def finish(self, method, future):
        try:
            answer = parse(future.result())
        except grpc.RpcError as error:
            self.notes.append((method, error.code().name, error.details()))
            return None
        header = parse(answer.pop(1))
        self.notes.append((method, header.get(3), sorted(answer.items())))
        return answer

    def call(self, method, request):
        return self.finish(method, self.start(method, request))

    def grant(self, lease):
        self.call("/etcdserverpb.Lease/LeaseGrant", message(f1=60, f2=lease))

    def revoke(self, lease):
        self.call("/etcdserverpb.Lease/LeaseRevoke", message(f1=lease))

    def keys(self, prefix):
        return self.cluster.etcdctl("get", "--prefix", prefix, "--keys-only").stdout.split()


def locks(server):
    for lease in (1, 2, 3):
        server.grant(lease)
    first = server.call(LOCK + "Lock", message(f1=b"l", f2=1))
    server.call(LOCK + "Lock", message(f1=b"l", f2=1))  # held already: the same again
    second = server.start(LOCK + "Lock", message(f1=b"l", f2=2))
    wait_until("the second waits", lambda: len(server.keys("l/")) == 2, 10)
    third = server.start(LOCK + "Lock", message(f1=b"l", f2=3))
    wait_until("the third waits", lambda: len(server.keys("l/")) == 3, 10)
    assert not second.done() and not third.done()
    server.call(LOCK + "Unlock", message(f1=first[2]))
    server.finish("second", second)
    assert not third.done()
    third.cancel()  # who waits no longer leaves
    wait_until("the third has left", lambda: len(server.keys("l/")) == 1, 10)
    fourth = server.start(LOCK + "Lock", message(f1=b"l", f2=1))
    wait_until("the fourth waits", lambda: len(server.keys("l/")) == 2, 10)
    server.revoke(2)  # the holder's lease ends
    server.finish("fourth", fourth)
    server.call(LOCK + "Unlock", message(f1=b"no such key"))
    server.call(LOCK + "Unlock", b"")
    server.call(LOCK + "Lock", message(f1=b"l", f2=999))  # no such lease
    own = server.start(LOCK + "Lock", message(f1=b"own"))  # with a lease of the server's
    assert parse(own.result())[2].startswith(b"own/")
    server.revoke(1)


def elections(server):
    for lease in (11, 12):
        server.grant(lease)
    server.call(ELECTION + "Leader", message(f1=b"e"))
    observed = []
    stream = server.channel.unary_stream(ELECTION + "Observe")(message(f1=b"e"), timeout=30)
    won = server.call(ELECTION + "Campaign", message(f1=b"e", f2=11, f3=b"one"))
    observed.append(parse(parse(next(stream))[2]))
    server.call(ELECTION + "Campaign", message(f1=b"e", f2=11, f3=b"one again"))
    observed.append(parse(parse(next(stream))[2]))
    rival = server.start(ELECTION + "Campaign", message(f1=b"e", f2=12, f3=b"two"))
    wait_until("the rival waits", lambda: len(server.keys("e/")) == 2, 10)
    server.call(ELECTION + "Leader", message(f1=b"e"))
    server.call(ELECTION + "Proclaim", message(f1=won[2], f2=b"news"))
    observed.append(parse(parse(next(stream))[2]))
    assert not rival.done()
    server.call(ELECTION + "Resign", message(f1=won[2]))
    server.finish("rival", rival)
    observed.append(parse(parse(next(stream))[2]))
    server.call(ELECTION + "Proclaim", message(f1=won[2], f2=b"late"))
    server.call(ELECTION + "Resign", message(f1=won[2]))  # no longer the leader's: nothing happens
    for method in ("Proclaim", "Resign"):
        server.call(ELECTION + method, b"")
    server.call(ELECTION + "Campaign", message(f1=b"e", f2=998, f3=b"x"))
    stream.cancel()
    server.revoke(12)
    server.call(ELECTION + "Leader", message(f1=b"e"))
    server.notes += [("observed", kv[1], kv[5]) for kv in observed]


def main():
    args = testing.arguments(__doc__)
    if grpc is None:
        testing.skip("there is no python3-grpcio")
    etcd = testing.real_etcd()
    for size in (1, 3):
        for part in (locks, elections):
            with Cluster(etcd) as reference, Cluster(args.implementation, size) as tested:
                servers = [Server(reference, reference.endpoints),
                           Server(tested, (tested.follower() if size > 1 else tested.members[0]).endpoint)]
                for server in servers:
                    part(server)
                for expected, actual in zip(*(server.notes for server in servers)):
                    assert expected == actual, f"expected {expected}, got {actual}"
                testing.step(f"{part.__name__}: {len(servers[0].notes)} answers alike, {size} members")


if __name__ == "__main__":
    main()
