"""What no one should send: the server refuses it in etcd's words, keeps serving, and does not grow."""
import http.client
import os
import random
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment, die_with_parent, free_port, wait_until

try:
    import grpc
except ImportError:
    grpc = None

MIB = 1 << 20
GROWTH_LIMIT = 64 * MIB


def call(channel, method, payload=b""):
    """One unary call with raw bytes: (code name, details)."""
    unary = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
    try:
        unary(payload, timeout=10)
        return "OK", ""
    except grpc.RpcError as error:
        return error.code().name, error.details()


def field(number, data):
    """A length-delimited protobuf field."""
    length, encoded = len(data), b""
    while length >= 0x80:
        encoded += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + encoded + bytes([length]) + data


def number(n, value):
    """A varint protobuf field."""
    value &= 2**64 - 1
    encoded = bytes([n << 3])
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def nested(depth, innermost=b""):
    """A transaction in a transaction in a transaction."""
    pieces, size = [innermost], len(innermost)
    for _ in range(depth - 1):
        for tag in (4, 2):  # RequestOp.request_txn, TxnRequest.success
            head = field(tag, b"\0" * size)[:-size or None]
            pieces.append(head)
            size += len(head)
    return b"".join(reversed(pieces))


def expect(actual, code, text=None):
    assert actual[0] == code and (text is None or text in actual[1]), f"expected {code} {text!r}, got {actual}"


def wrong_calls(cluster):
    with grpc.insecure_channel(cluster.members[0].endpoint, options=[("grpc.enable_http_proxy", 0)]) as channel:
        expect(call(channel, "/etcdserverpb.KV/Bogus"), "UNIMPLEMENTED", "unknown method Bogus")
        expect(call(channel, "/no.Such/Service"), "UNIMPLEMENTED", "unknown service no.Such")
        # Truncated: the key says it has 100 bytes.
        expect(call(channel, "/etcdserverpb.KV/Put", b"\x0a\x64abc"), "INTERNAL", "grpc: ")
        expect(call(channel, "/etcdserverpb.KV/Put", b"\xff\xff\xff\xff"), "INTERNAL", "grpc: ")
        expect(call(channel, "/etcdserverpb.KV/Put", b""), "INVALID_ARGUMENT", "etcdserver: key is not provided")
        expect(call(channel, "/etcdserverpb.KV/Range", b""), "INVALID_ARGUMENT", "etcdserver: key is not provided")
        large = field(1, b"k") + field(2, b"v" * (1536 * 1024 + 10))
        expect(call(channel, "/etcdserverpb.KV/Put", large), "INVALID_ARGUMENT", "etcdserver: request is too large")
        oversized = field(1, b"k") + field(2, b"v" * (3 * MIB))
        expect(call(channel, "/etcdserverpb.KV/Put", oversized), "RESOURCE_EXHAUSTED", "larger than max")
        many = b"".join(field(2, field(2, field(1, b"%d" % i))) for i in range(200))
        expect(call(channel, "/etcdserverpb.KV/Txn", many), "INVALID_ARGUMENT",
               "etcdserver: too many operations in txn request")


def out_of_bounds(cluster):
    """Fields that are huge, deep, many or far away."""
    many_ops = "etcdserver: too many operations in txn request"
    too_large = "etcdserver: request is too large"
    put = field(2, field(2, field(1, b"deep") + field(2, b"v")))
    with grpc.insecure_channel(cluster.members[0].endpoint, options=[("grpc.enable_http_proxy", 0)]) as channel:
        for depth in (2, 45, 60, 127):
            expect(call(channel, "/etcdserverpb.KV/Txn", nested(depth, put)), "OK")
        for depth in (130, 500, 20_000):
            expect(call(channel, "/etcdserverpb.KV/Txn", nested(depth, put)), "INVALID_ARGUMENT", many_ops)
        for count in (129, 10_000):
            ops = b"".join(field(2, field(2, field(1, b"%d" % i))) for i in range(count))
            expect(call(channel, "/etcdserverpb.KV/Txn", ops), "INVALID_ARGUMENT", many_ops)
        key = b"k" * (1536 * 1024)
        expect(call(channel, "/etcdserverpb.KV/Put", field(1, key)), "INVALID_ARGUMENT", too_large)
        expect(call(channel, "/etcdserverpb.KV/DeleteRange", field(1, key)), "INVALID_ARGUMENT", too_large)
        expect(call(channel, "/etcdserverpb.KV/Range", field(1, key)), "OK")
        expect(call(channel, "/etcdserverpb.KV/Put", field(1, b"k") + number(3, 2**63 - 1)), "NOT_FOUND",
               "etcdserver: requested lease not found")
        future = "etcdserver: mvcc: required revision is a future revision"
        expect(call(channel, "/etcdserverpb.KV/Range", field(1, b"k") + number(4, 2**63 - 1)), "OUT_OF_RANGE", future)
        expect(call(channel, "/etcdserverpb.KV/Compact", number(1, 2**63 - 1)), "OUT_OF_RANGE", future)
        expect(call(channel, "/etcdserverpb.KV/Range", field(1, b"k") + number(4, -2**63)), "OK")
        for limit in (2**63 - 1, -1, -2**63):
            expect(call(channel, "/etcdserverpb.KV/Range", field(1, b"a") + field(2, b"z") + number(3, limit)), "OK")
        for ttl in (9_000_000_001, 2**63 - 1):
            expect(call(channel, "/etcdserverpb.Lease/LeaseGrant", number(1, ttl)), "OUT_OF_RANGE",
                   "etcdserver: too large lease TTL")
        for method in ("LeaseRevoke", "LeaseTimeToLive"):
            code = "NOT_FOUND" if method == "LeaseRevoke" else "OK"
            expect(call(channel, "/etcdserverpb.Lease/" + method, number(1, 2**63 - 1)), code)
        if cluster.implementation.name == "kvd":  # etcd 3.4 ends at this
            expect(call(channel, "/etcdserverpb.KV/Range", field(1, b"k") + number(6, 99)), "INVALID_ARGUMENT",
                   "etcdserver: invalid sort option")


def many_streams(cluster):
    """Ten thousand streams on one connection, each with a watch, none of which is read for a while."""
    member, streams = cluster.members[0], 10_000
    before = member.memory_bytes()
    with grpc.insecure_channel(member.endpoint, options=[("grpc.enable_http_proxy", 0)]) as channel:
        watch = channel.stream_stream("/etcdserverpb.Watch/Watch")
        calls = [watch(iter([field(1, field(1, b"streams"))])) for _ in range(streams)]
        for one in calls:
            next(one)
        for i in range(10):
            cluster.etcdctl("put", "streams", "s" * 10_000, endpoint=member)
        growth = member.memory_bytes() - before
        assert growth < 4 * GROWTH_LIMIT, f"{streams} streams cost {growth / MIB:.1f} MiB"
        still_serves(cluster, "streams")
        for one in calls:
            one.cancel()


class RawHttp2:
    """A connection that sends what a library would not, but no more than the windows that the member opens."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.credit = {0: 65535}  # by stream; 0 is the connection
        self.initial = 65535
        self.received = b""
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(4, 0, 0, b""))

    @staticmethod
    def frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def open(self, stream, path):
        block = b""
        for name, value in ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"bad"),
                            (b"content-type", b"application/grpc"), (b"te", b"trailers")):
            block += b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        self.credit[stream] = self.initial
        self.socket.sendall(self.frame(1, 4, stream, block))

    def send(self, stream, data, patience):
        """False if the member has opened no window for it within `patience` seconds."""
        deadline = time.monotonic() + patience
        while min(self.credit[0], self.credit[stream]) < len(data):
            if time.monotonic() > deadline:
                return False
            self.receive()
        self.credit[0] -= len(data)
        self.credit[stream] -= len(data)
        self.socket.sendall(self.frame(0, 0, stream, data))
        return True

    def receive(self):
        self.socket.settimeout(0.1)
        try:
            self.received += self.socket.recv(65536)
        except TimeoutError:
            return
        finally:
            self.socket.settimeout(10)
        while len(self.received) >= 9:
            size, kind = int.from_bytes(self.received[:3], "big"), self.received[3]
            flags, stream = self.received[4], int.from_bytes(self.received[5:9], "big")
            if len(self.received) < 9 + size:
                return
            payload, self.received = self.received[9:9 + size], self.received[9 + size:]
            if kind == 8:
                self.credit[stream] += int.from_bytes(payload, "big")
            elif kind == 4 and not flags & 1:
                for i in range(0, size, 6):
                    if payload[i:i + 2] == b"\0\4":
                        value = int.from_bytes(payload[i + 2:i + 6], "big")
                        for other in self.credit:
                            if other != 0:
                                self.credit[other] += value - self.initial
                        self.initial = value
                self.socket.sendall(self.frame(4, 1, 0, b""))
            elif kind == 7:
                raise AssertionError(f"the member ended the connection: {payload}")

    def close(self):
        self.socket.close()


def asks_and_never_reads(cluster):
    """A watch stream that creates watches without end and takes no answer: the member stops reading it."""
    member = cluster.members[0]
    before = member.memory_bytes()
    raw = RawHttp2(member.client_port)
    try:
        raw.open(1, b"/etcdserverpb.Watch/Watch")
        request = field(1, field(1, b"never") + number(3, 1))
        message = b"\0" + len(request).to_bytes(4, "big") + request
        batch = message * (16_000 // len(message))
        sent = 0
        while sent < 64 * MIB and raw.send(1, batch, 3):
            sent += len(batch)
        growth = member.memory_bytes() - before
        testing.step(f"{sent / MIB:.1f} MiB of requests were read, and cost {growth / MIB:.1f} MiB")
        assert sent < 16 * MIB, f"{sent / MIB:.1f} MiB of requests were read"
        assert growth < 2 * GROWTH_LIMIT, f"{sent / MIB:.1f} MiB of requests cost {growth / MIB:.1f} MiB"
        still_serves(cluster, "never-reads")
    finally:
        raw.close()


def asks_much_and_reads_late(cluster):
    """Whoever does take the answers gets all of them, however much was asked before."""
    member, watches = cluster.members[0], 60_000
    with grpc.insecure_channel(member.endpoint, options=[("grpc.enable_http_proxy", 0)]) as channel:
        watch = channel.stream_stream("/etcdserverpb.Watch/Watch")
        sent = 0

        def requests():
            nonlocal sent
            for _ in range(watches):
                sent += 1
                yield field(1, field(1, b"much"))

        answers = watch(requests())
        time.sleep(1)
        for i in range(watches):
            try:
                next(answers)
            except StopIteration:
                raise AssertionError(f"the stream ended after {i} answers") from None
        assert sent == watches
        answers.cancel()


def garbage(cluster):
    """Random bytes, and the beginnings of real protocols, on both ports."""
    rng = random.Random(7)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    openings = [b"", b"GET / HTTP/1.1\r\n", b"POST /raft HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", preface[:10], preface,
                preface + settings, preface + settings + b"\x00\xff\xff\x01\x05\x00\x00\x00\x01",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
    for member in cluster.members:
        for port in (member.client_port, member.peer_port):
            for opening in openings:
                for size in (0, 1, 100, 20_000):
                    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                        try:
                            connection.sendall(opening + rng.randbytes(size))
                            connection.settimeout(0.02)
                            connection.recv(4096)
                        except OSError:
                            pass


def half_open(cluster):
    """Connections that never speak cost little and keep no one else from being served."""
    member = cluster.members[0]
    before = member.memory_bytes()
    connections = [socket.create_connection(("127.0.0.1", port), timeout=5)
                   for port in (member.client_port, member.peer_port) for _ in range(200)]
    try:
        cluster.etcdctl("put", "half", "open", endpoint=member)
        growth = member.memory_bytes() - before
        assert growth < GROWTH_LIMIT, f"400 idle connections cost {growth / MIB:.1f} MiB"
    finally:
        for connection in connections:
            connection.close()


def wrong_peer(cluster):
    """A peer of another cluster is turned away."""
    member = cluster.members[0]
    for method, path in (("POST", "/raft"), ("GET", "/raft/stream/message/1"), ("GET", "/raft/stream/msgapp/1")):
        connection = http.client.HTTPConnection("127.0.0.1", member.peer_port, timeout=5)
        connection.request(method, path, body=b"\x08\x00" if method == "POST" else None,
                           headers={"X-Etcd-Cluster-ID": "dead", "X-Server-From": "1", "X-Server-Version": "3.4.0",
                                    "X-Min-Cluster-Version": "3.0.0", "X-Raft-To": "1"})
        response = connection.getresponse()
        body = response.read(200)
        assert response.status == 412, f"{method} {path}: {response.status} {body}"
        connection.close()


def fails_to_start(command, texts, seconds=20):
    """The program ends with an error that says one of the texts, or (as etcd does with a lock) waits and says it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=clean_environment(), preexec_fn=die_with_parent)
    try:
        output, _ = process.communicate(timeout=seconds)
        assert process.returncode != 0, output
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        assert any("waits" == text for text in texts), f"still runs after {seconds} s: {' '.join(command)}\n{output}"
    assert any(text in output for text in texts), f"{' '.join(command)} said none of {texts}:\n{output}"


def wrong_start(cluster):
    member = cluster.members[0]
    binary = cluster.implementation.binary
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    urls = ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer]
    locked = [binary, "--data-dir", member.data_dir, "--name", member.name, *urls]
    if cluster.implementation.name == "kvd":
        fails_to_start(locked, [member.data_dir])
    else:
        fails_to_start(locked, ["waits", "", member.data_dir], seconds=3)
    elsewhere = ["--data-dir", os.path.join(cluster.directory, "wrong")]
    fails_to_start([binary, *elsewhere, "--heartbeat-interval=abc"], ["heartbeat-interval"])
    fails_to_start([binary, *elsewhere, "--no-such-flag"], ["no-such-flag"])
    fails_to_start([binary, *elsewhere, "--initial-cluster-state=maybe"], ["initial-cluster-state"])
    fails_to_start([binary, *elsewhere, "--listen-client-urls=ftp://x:1"], ["listen-client-urls", "scheme"])
    fails_to_start([binary, *elsewhere, "--election-timeout=10", "--heartbeat-interval=100"], ["election"])


def still_serves(cluster, tag):
    for member in cluster.members:
        cluster.etcdctl("put", f"after/{tag}", member.name, endpoint=member)
        got = cluster.etcdctl("get", f"after/{tag}", "--print-value-only", endpoint=member).stdout.strip()
        assert got == member.name, got


def main():
    args = testing.arguments(__doc__)
    if grpc is None:
        testing.skip("there is no python3-grpcio")
    with Cluster(args.implementation, 3) as cluster:
        still_serves(cluster, "start")
        time.sleep(0.5)
        before = [member.memory_bytes() for member in cluster.members]
        for run in (wrong_calls, out_of_bounds, many_streams, asks_and_never_reads,
                    asks_much_and_reads_late, garbage, half_open, wrong_peer, wrong_start):
            run(cluster)
            still_serves(cluster, run.__name__)
            testing.step(run.__name__)
        for _ in range(3):
            garbage(cluster)
            wrong_calls(cluster)
        wait_until("a leader", cluster.leader, 20)
        for member, base in zip(cluster.members, before):
            growth = member.memory_bytes() - base
            assert growth < 2 * GROWTH_LIMIT, f"{member.name} grew by {growth / MIB:.1f} MiB"
        cluster.wait_equal()


if __name__ == "__main__":
    main()
