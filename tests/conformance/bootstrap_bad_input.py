"""What no start should take: wrong flags, services that are not there or lie, records that do not fit, members that
answer nonsense. Each row of the tables ends in one line, exit code 1 (2 for a flag whose value does not parse), and
leaves the data directory as it was: not there."""
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.bootstrap import DOMAIN, Scratch, start_dns
from lib.cluster import clean_environment, die_with_parent, free_port

LIMIT = 25  # seconds, of one start


class Liar:
    """An HTTP server that answers every request with the same; in threads of this process."""

    def __init__(self, body=b"", status=200, headers=(), hang=False):
        liar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def reply(self):
                if hang:
                    time.sleep(LIMIT + 5)
                    return
                content = body if isinstance(body, bytes) else body(self)
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    self.wfile.write(content)
                except OSError:
                    pass

            do_GET = do_PUT = do_POST = reply

            def log_message(self, *_):
                liar.requests += 1

        self.requests = 0
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Start:
    """The flags of one start, and what comes of it."""

    def __init__(self, binary, directory):
        self.binary = binary
        self.data_dir = os.path.join(directory, "data")
        self.peer_port = free_port()
        self.client_url = f"http://127.0.0.1:{free_port()}"

    @property
    def peer_url(self):
        return f"http://127.0.0.1:{self.peer_port}"

    def expect(self, what, flags, pattern, code=1):
        command = [self.binary, "--name", "m1", "--data-dir", self.data_dir, "--listen-client-urls", self.client_url,
                   "--advertise-client-urls", self.client_url, "--listen-peer-urls", self.peer_url,
                   "--initial-advertise-peer-urls", self.peer_url, *flags]
        begun = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors="replace", env=clean_environment(), preexec_fn=die_with_parent)
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            raise AssertionError(f"{what}: still runs after {LIMIT} s: {flags}\n{output}") from None
        # A start that stops before the log is open says its line plainly; later it is the one of level fatal.
        lines = [json.loads(line)["msg"] for line in output.splitlines() if '"level":"fatal"' in line]
        lines += [line for line in output.splitlines() if line.startswith("kvd: ")]
        assert process.returncode == code, (what, process.returncode, output)
        assert len(lines) == 1, (what, output)
        assert re.search(pattern, lines[0]) and "\n" not in lines[0].strip(), (what, pattern, lines[0])
        assert not os.path.exists(self.data_dir), (what, os.listdir(self.data_dir))
        print(f"  {what:44} {time.monotonic() - begun:5.2f} s  {lines[0][:220]}", flush=True)


def wrong_flags(start):
    testing.step("flags that do not go together")
    mine = start.peer_url
    discovery = ["--discovery", "http://127.0.0.1:1/token"]
    keys = ["--discovery-endpoints", "127.0.0.1:1", "--discovery-token", "t"]
    dns = ["--discovery-srv", DOMAIN]
    static = ["--initial-cluster", f"m1={mine}"]
    many = "multiple discovery or bootstrap flags are set"
    rows = [
        ("static and discovery", static + discovery, many),
        ("static and keys", static + keys, many),
        ("static and DNS", static + dns, many),
        ("discovery and keys", discovery + keys, many),
        ("discovery and DNS", discovery + dns, many),
        ("keys and DNS", keys + dns, many),
        ("all of them", static + discovery + keys + dns, many),
        ("a token alone", keys[2:], "both --discovery-token and --discovery-endpoints must be set"),
        ("endpoints alone", keys[:2], "both --discovery-token and --discovery-endpoints must be set"),
        ("an empty endpoint", ["--discovery-endpoints", "127.0.0.1:1,,127.0.0.1:2", *keys[2:]], "empty endpoints"),
        ("an endpoint without port", ["--discovery-endpoints", "localhost", *keys[2:]], "--discovery-endpoints"),
        ("certificates that are not there", keys + ["--discovery-cert", "c", "--discovery-key", "k"],
         "TLS for the discovery service .*: open c: no such file"),
        ("a suffix without DNS", ["--discovery-srv-name", "blue"], "--discovery-srv-name needs --discovery-srv"),
        ("DNS servers that are none", dns + ["--discovery-dns-servers", "nowhere"], "--discovery-dns-servers"),
        ("a URL without token", ["--discovery", "http://127.0.0.1:1"], "--discovery: discovery: invalid URL"),
        ("a URL without host", ["--discovery", "http:///token"], "--discovery: discovery: invalid URL"),
        ("no URL at all", ["--discovery", "token"], "--discovery: discovery: invalid URL"),
        ("a secure URL through a proxy", ["--discovery", "https://discovery.example/t", "--discovery-proxy", "x:1"],
         "--discovery-proxy: .* needs TLS"),
        ("a proxy that is none", discovery + ["--discovery-proxy", "x y"], "--discovery-proxy: invalid proxy address"),
        ("discovery of an existing cluster", discovery + ["--initial-cluster-state", "existing"],
         "discovery URL should not be set when joining existing initial cluster"),
        ("keys of an existing cluster", keys + ["--initial-cluster-state", "existing"], "should not be set when joining"),
        ("not in the list", ["--initial-cluster", f"m2={mine}"], "couldn't find local name \"m1\""),
        ("other URLs in the list", ["--initial-cluster", "m1=http://127.0.0.1:9"],
         "--initial-cluster has m1=http://127.0.0.1:9 but missing from --initial-advertise-peer-urls="),
        ("more URLs in the list", static[:1] + [f"m1={mine},m1=http://127.0.0.1:9"], "but missing from"),
        ("a URL twice", ["--initial-cluster", f"m1={mine},m2={mine}"], "has duplicate url"),
        ("a name without URL", ["--initial-cluster", f"m1={mine},m2"], "empty URL given for \"m2\""),
        ("a list that is none", ["--initial-cluster", "m1=localhost"], "--initial-cluster: URL"),
        ("a secure URL without certificate", ["--listen-peer-urls", "https://127.0.0.1:9"], "cannot listen on TLS for"),
        ("an empty list", ["--initial-cluster", ""], "initial cluster unset and no discovery endpoints found"),
        ("nobody to join", static + ["--initial-cluster-state", "existing"], "cannot fetch cluster info from peer urls"),
    ]
    for what, flags, pattern in rows:
        start.expect(what, flags, pattern)
    start.expect("a state that is none", ["--initial-cluster-state", "old"], "possible values are new, existing", 2)
    start.expect("the proxy's fallback", discovery + ["--discovery-fallback", "proxy"], "can't be configured as", 2)


def node(value):
    return json.dumps({"action": "get", "node": {"key": "/t/_config/size", "value": value}}).encode()


def v2_services(start):
    testing.step("discovery services that lie")
    bad = "failed to join discovery cluster \\(discovery: "

    def members(entries, size="2"):
        """A service with these registrations, which says yes to everything."""
        def answer(request):
            if request.path.split("?")[0].endswith("/_config/size"):
                return node(size)
            nodes = [{"key": f"/t/{name}", "value": value, "createdIndex": i, "modifiedIndex": i}
                     for i, (name, value) in enumerate(entries, 1)]
            return json.dumps({"action": "get", "node": {"key": "/t", "dir": True, "nodes": nodes}}).encode()
        return answer

    not_found = json.dumps({"errorCode": 100, "message": "Key not found", "cause": "/t", "index": 1}).encode()
    deep = b'{"node":' * 5000 + b"1" + b"}" * 5000
    rows = [
        ("a web page", Liar(b"<html><body>Welcome</body></html>"), "bad discovery endpoint"),
        ("nothing found", Liar(b"404 page not found", 404), "bad discovery endpoint"),
        ("an empty answer", Liar(b""), "bad discovery endpoint"),
        ("JSON of another kind", Liar(b'{"health":"true"}'), "bad discovery endpoint"),
        ("JSON that nests deep", Liar(deep), "bad discovery endpoint"),
        ("an endless answer", Liar(b"x" * (8 << 20)), "bad discovery endpoint"),
        ("zeros", Liar(b"\0" * 1000), "bad discovery endpoint"),
        ("no such token", Liar(not_found, 404), "size key not found"),
        ("forbidden", Liar(b'{"errorCode":110,"message":"no rights"}', 401), "no rights"),
        ("a redirect to another protocol", Liar(b"", 307, [("Location", "ftp://elsewhere/t")]), "bad discovery endpoint"),
        ("a redirect without place", Liar(b"", 302), "bad discovery endpoint"),
        ("size zero", Liar(node("0")), "size key is bad"),
        ("size below zero", Liar(node("-3")), "size key is bad"),
        ("size of text", Liar(node("three")), "size key is bad"),
        ("size too large", Liar(node("9" * 40)), "size key is bad"),
        ("size of another line", Liar(node("3\n{\"level\":\"info\"}")), "size key is bad"),
        ("full", Liar(members([("a", "x"), ("b", "y")])), "cluster is full"),
        ("an index that is none", Liar(node("3"), 200, [("X-Etcd-Index", "x")]), "bad discovery endpoint"),
    ]
    for what, liar, pattern in rows:
        start.expect(what, ["--discovery", liar.url + "/t"], bad + ".*" + pattern)
        liar.close()

    # What the others have registered, as far as this member's own ID can be told beforehand: any that is in the list.
    for what, value, pattern in (("a member without URL", "m2", "invalid peer URL"),
                                 ("a member with a strange URL", "m2=gopher://x:1", "invalid peer URL"),
                                 ("no member at all", "", "invalid peer URL"),
                                 ("a member of another token", "m2=http://127.0.0.1:9", ".* all members must be given")):
        seen = []

        def answer(request, value=value, seen=seen):
            path = request.path.split("?")[0]
            if request.command == "PUT":
                seen.append(path.rsplit("/", 1)[1])
            if path.endswith("/_config/size"):
                return node("2")
            entries = [("feed", value)] + [(name, f"m1={start.peer_url}") for name in seen]
            return members(entries)(request) if seen else members([])(request)

        liar = Liar(answer)
        start.expect(what, ["--discovery", liar.url + "/t"], bad + pattern)
        liar.close()


def v3_services(start):
    testing.step("services of v3 keys that are none")
    page = Liar(b"<html>")
    flags = ["--discovery-token", "t", "--discovery-request-timeout", "2s"]
    # HTTP/1.1 where HTTP/2 is expected is a connection that is lost, and tried again; a stop ends it (bootstrap.py).
    process = subprocess.Popen([start.binary, "--name", "m1", "--data-dir", start.data_dir, "--listen-peer-urls",
                                start.peer_url, "--initial-advertise-peer-urls", start.peer_url,
                                "--discovery-endpoints", page.url, *flags],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=clean_environment(),
                               preexec_fn=die_with_parent)
    line = ""
    begun = time.monotonic()
    while "retrying in 2s" not in line and time.monotonic() < begun + LIMIT:
        line = process.stderr.readline()
    assert "retrying in 2s" in line and re.search("connection lost|does not speak HTTP/2", line), line
    process.terminate()
    process.communicate(timeout=10)
    assert not os.path.exists(start.data_dir)
    page.close()


def dns_answers(start, directory):
    testing.step("records that do not fit")
    wrong = "error setting up initial cluster: "
    rows = [
        ("no records", [], wrong + "error querying DNS SRV records for _etcd-server-ssl .*; error querying"),
        ("another port", [("etcd-server", "localhost", 9)], wrong + "cannot find local etcd member \"m1\""),
        ("another host", [("etcd-server", f"a.node.{DOMAIN}", 9)], wrong + "cannot find local etcd member"),
        ("a host that is none", [("etcd-server", f"a.nowhere.{DOMAIN}", start.peer_port)],
         wrong + "cannot find local etcd member \"m1\" in SRV records \\(lookup a.nowhere"),
        ("records for TLS", [("etcd-server-ssl", "localhost", start.peer_port)], wrong + ".*has scheme mismatch"),
    ]
    for what, records, pattern in rows:
        with start_dns(directory, records) as server:
            start.expect(what, ["--discovery-srv", DOMAIN, "--discovery-dns-servers", server.address,
                                "--initial-advertise-peer-urls", f"http://localhost:{start.peer_port}"], pattern)
    start.expect("a name that is none", ["--discovery-srv", "x" * 70 + ".test", "--discovery-dns-servers",
                                         "127.0.0.1:9"], wrong + "lookup .*: Misformatted domain name")


def members_answers(start):
    testing.step("members that answer nonsense")
    cluster = [("X-Etcd-Cluster-ID", "4d")]
    mine = start.peer_url

    def joining(liar):
        return ["--initial-cluster", f"m1={mine},m2={liar.url}", "--initial-cluster-state", "existing"]

    def listing(liar_url, *members):
        return json.dumps([{"id": i, "peerURLs": urls, "name": name} for i, (name, urls) in
                           enumerate([("m2", [liar_url]), *members], 7)]).encode()

    cannot = "cannot fetch cluster info from peer urls"
    rows = [
        ("a web page", Liar(b"<html>", 200, cluster), cannot),
        ("an error", Liar(b"[]", 500, cluster), cannot),
        ("no members", Liar(b"[]", 200, cluster), cannot),
        ("no cluster ID", Liar(b'[{"id":7,"peerURLs":["http://x:1"]}]'), cannot),
        ("a cluster ID that is none", Liar(b'[{"id":7,"peerURLs":["http://x:1"]}]', 200, [("X-Etcd-Cluster-ID", "zz")]),
         cannot),
        ("a member without ID", Liar(b'[{"peerURLs":["http://x:1"]}]', 200, cluster), cannot),
        ("an ID that is no number", Liar(b'[{"id":"x","peerURLs":["http://x:1"]}]', 200, cluster), cannot),
        ("JSON that nests deep", Liar(b"[" * 100000, 200, cluster), cannot),
        ("an endless answer", Liar(b"[" + b" " * (16 << 20), 200, cluster), cannot),
        ("fewer members", Liar(b'[{"id":7,"peerURLs":["http://127.0.0.1:9"]}]', 200, cluster), "member count is unequal"),
        ("an answer that never comes", Liar(hang=True), cannot),
    ]
    for what, liar, pattern in rows:
        start.expect(what, joining(liar), pattern)
        liar.close()
    other = Liar(lambda request: listing(f"http://127.0.0.1:{request.server.server_port}",
                                         ("", ["http://127.0.0.1:9"])), 200, cluster)
    start.expect("other URLs", joining(other), "PeerURLs: no match found for existing member")
    other.close()
    started = Liar(lambda request: listing(f"http://127.0.0.1:{request.server.server_port}", ("m1", [mine])), 200, cluster)
    start.expect("this member runs already", joining(started), "has already been bootstrapped")
    started.close()
    no_version = Liar(lambda request: listing(f"http://127.0.0.1:{request.server.server_port}", ("", [mine])), 200, cluster)
    start.expect("a version that is none", joining(no_version), "incompatible with current running cluster")
    no_version.close()
    twins = Liar(lambda request: listing(f"http://127.0.0.1:{request.server.server_port}",
                                         ("", [f"http://127.0.0.1:{request.server.server_port}"])), 200, cluster)
    start.expect("one URL of two members", joining(twins), "the running cluster|PeerURLs|duplicate")
    twins.close()


def main():
    args = testing.arguments(__doc__)
    testing.need_program("dnsmasq")
    with Scratch() as directory:
        start = Start(args.implementation.binary, directory)
        wrong_flags(start)
        v2_services(start)
        v3_services(start)
        dns_answers(start, directory)
        members_answers(start)


if __name__ == "__main__":
    main()
