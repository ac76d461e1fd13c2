"""TLS on both ports, with certificates that the test makes: etcdctl, kvctl, curl and python3-etcd3 as clients; three
members that trust one another only; one of them a real etcd; and certificates that the members make themselves."""
import os
import socket
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.bootstrap import Scratch
from lib.certificates import Authority, TlsCluster, run
from lib.cluster import free_port, wait_until

try:
    import etcd3
except ImportError:
    etcd3 = None


def both_sides(authority):
    """The flags of a member that shows, and demands, certificates on both its ports."""
    cert, key = authority.path("member.pem"), authority.path("member.key")
    return ["--cert-file", cert, "--key-file", key, "--trusted-ca-file", authority.ca, "--client-cert-auth",
            "--peer-cert-file", cert, "--peer-key-file", key, "--peer-trusted-ca-file", authority.ca,
            "--peer-client-cert-auth"]


def serial_served(port, authority):
    """The serial number of the certificate that a client of this port is shown."""
    context = ssl.create_default_context(cafile=authority.ca)
    context.load_cert_chain(authority.path("client.pem"), authority.path("client.key"))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            return secure.getpeercert()["serialNumber"]


def tools(args, cluster, member, authority):
    cluster.etcdctl("put", "color", "green")
    assert cluster.etcdctl("get", "color", "--print-value-only").stdout.strip() == "green"
    assert cluster.kvctl("get", "color", "--print-value-only").stdout.strip() == "green"
    kvctl = os.path.join(args.bin_dir, "kvctl")
    # The same by variables, with the names of etcdctl.
    environment = {"ETCDCTL_CACERT": authority.ca, "ETCDCTL_CERT": authority.path("client.pem"),
                   "ETCDCTL_KEY": authority.path("client.key"), "ETCDCTL_ENDPOINTS": member.client_url}
    for tool in ("etcdctl", kvctl):
        found = run([tool, "get", "color", "--print-value-only"], environment)
        assert found.stdout.strip() == "green", (tool, found.stderr)
        # Without verifying the member, but with a certificate for it.
        found = run([tool, "--endpoints", member.client_url, "--insecure-skip-tls-verify", *cluster.tool_flags[2:],
                     "get", "color", "--print-value-only"])
        assert found.stdout.strip() == "green", (tool, found.stderr)
        # Without a certificate, and without TLS.
        for flags in (["--cacert", authority.ca, "--endpoints", member.client_url],
                      ["--endpoints", f"http://127.0.0.1:{member.client_port}"]):
            refused = run([tool, "--dial-timeout=1s", "--command-timeout=1s", *flags, "get", "color"])
            assert refused.returncode != 0 and "green" not in refused.stdout, (tool, flags, refused.stdout)
    testing.step("etcdctl and kvctl, by flags and by variables; refused without a certificate and without TLS")


def plain_http(member, authority, extra_http, extra_metrics):
    curl = ["curl", "-sS", "--max-time", "10"]
    secure = [*curl, "--cacert", authority.ca, "--cert", authority.path("client.pem"), "--key",
              authority.path("client.key")]
    for version in ("--http1.1", "--http2"):
        health = run([*secure, version, "-w", " %{http_version}", member.client_url + "/health"])
        assert '"health":"true"' in health.stdout, (health.stdout, health.stderr)
        assert health.stdout.split()[-1] == ("1.1" if version == "--http1.1" else "2"), health.stdout
    assert "etcd_server_has_leader 1" in run([*secure, member.client_url + "/metrics"]).stdout
    assert "etcd_server_has_leader 1" in run([*secure, extra_metrics + "/metrics"]).stdout
    refused = run([*curl, "--cacert", authority.ca, member.client_url + "/health"])
    assert refused.returncode != 0, refused.stdout
    told = run([*curl, f"http://127.0.0.1:{member.client_port}/health"])
    assert "Client sent an HTTP request to an HTTPS server." in told.stdout, (told.stdout, told.stderr)
    # The other URL of the same member is one of plaintext.
    assert '"health":"true"' in run([*curl, extra_http + "/health"]).stdout
    assert "green" in run(["etcdctl", "--endpoints", extra_http, "get", "color"]).stdout
    old = run([*secure, "--tlsv1.1", "--tls-max", "1.1", member.client_url + "/health"])
    assert old.returncode != 0, old.stdout
    for expected in ("rejected connection on client endpoint", "tls: client didn't provide a certificate",
                     "first record does not look like a TLS handshake", "ignoring key and cert files"):
        assert expected in member.log(), expected
    testing.step("HTTP/1.1, HTTP/2, metrics, and http beside https on one member")


def python_client(member, authority):
    if etcd3 is None:
        return testing.step("there is no python3-etcd3: left out")
    client = etcd3.client(host="127.0.0.1", port=member.client_port, ca_cert=authority.ca,
                          cert_cert=authority.path("client.pem"), cert_key=authority.path("client.key"), timeout=10)
    client.put("python", "3")
    assert client.get("python")[0] == b"3"
    events, cancel = client.watch("python")
    client.put("python", "4")
    assert next(events).value == b"4"
    cancel()
    return testing.step("python3-etcd3")


def renewal(cluster, member, authority):
    before = serial_served(member.client_port, authority)
    authority.issue("member", common_name="renewed")
    after = serial_served(member.client_port, authority)
    assert before != after, before
    # Half of a renewal: the key is not the certificate's, and what was there serves on.
    key = authority.path("member.key")
    with open(key, "rb") as file:
        good = file.read()
    with open(key + ".next", "wb") as file:
        file.write(b"not a key")
    os.replace(key + ".next", key)
    assert serial_served(member.client_port, authority) == after
    with open(key + ".next", "wb") as file:
        file.write(good)
    os.replace(key + ".next", key)
    cluster.etcdctl("get", "color")
    assert "changed TLS files cannot be used" in member.log()
    testing.step("a renewed certificate is served without a restart, an unusable one is not")


def half_open(cluster, member):
    """Connections that never shake hands: they end, and the member is as small as before."""
    cluster.etcdctl("get", "color")
    before = member.memory_bytes()
    silent = []
    for i in range(400):
        one = socket.create_connection(("127.0.0.1", member.client_port), timeout=30)
        if i % 2 == 0:
            one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
        silent.append(one)
    return before, silent, time.monotonic()


def half_open_end(cluster, member, before, silent, begun):
    for one in silent:
        one.settimeout(30)
        try:
            assert one.recv(100) == b""
        except ConnectionResetError:
            pass
        one.close()
    grown = member.memory_bytes() - before
    cluster.etcdctl("get", "color")
    testing.step(f"400 half-open handshakes were ended after {time.monotonic() - begun:.1f} s; memory {grown >> 10:+d} KiB")
    assert grown < 32 << 20, grown


def one_member(args, authority):
    http, metrics = f"http://127.0.0.1:{free_port()}", f"https://127.0.0.1:{free_port()}"
    cluster = TlsCluster([args.implementation], both_sides(authority), authority)
    member = cluster.members[0]
    member.extra_args = ["--listen-client-urls", f"{member.client_url},{http}", "--listen-metrics-urls", metrics]
    with cluster:
        pending = half_open(cluster, member)
        tools(args, cluster, member, authority)
        plain_http(member, authority, http, metrics)
        python_client(member, authority)
        renewal(cluster, member, authority)
        half_open_end(cluster, member, *pending)


def three_members(args, authority, implementations, what):
    with TlsCluster(implementations, both_sides(authority), authority) as cluster:
        value = "v" * 100_000
        cluster.etcdctl("put", "large", value)
        for i in range(10):
            cluster.etcdctl("put", f"key{i}", "x", endpoint=cluster.members[i % 3])
        for member in cluster.members:
            assert cluster.etcdctl("get", "large", "--print-value-only", endpoint=member).stdout.strip() == value
        health = cluster.etcdctl("endpoint", "health")
        assert (health.stdout + health.stderr).count("is healthy") == 3, health.stdout
        assert cluster.kvctl("member", "list").stdout.count("started") == 3
        gone = cluster.leader()
        gone.kill()
        left = next(m for m in cluster.members if m is not gone)
        wait_until("a write without the old leader",
                   lambda: cluster.etcdctl("put", "after", "1", endpoint=left, check=False).returncode == 0, 20)
        gone.start()
        gone.wait_healthy()
        cluster.wait_equal()
        stranger = run(["curl", "-sS", "--max-time", "5", "-k", cluster.members[0].peer_url + "/members"])
        assert stranger.returncode != 0, stranger.stdout
        kvd = next(m for m in cluster.members if m.implementation is args.implementation)
        if kvd is cluster.members[0]:
            wait_until("the stranger is reported", lambda: "rejected connection on peer endpoint" in kvd.log(), 10)
    testing.step(f"{what}: both ports under TLS, a leader killed and back, equal HashKV")


def own_certificates(args):
    flags = ["--auto-tls", "--peer-auto-tls", "--self-signed-cert-validity", "2"]
    with TlsCluster([args.implementation] * 3, flags) as cluster:
        cluster.etcdctl("put", "own", "made")
        member = cluster.members[0]
        made = {}
        for side in ("client", "peer"):
            for name in ("cert.pem", "key.pem"):
                path = os.path.join(member.data_dir, "fixtures", side, name)
                assert os.stat(path).st_mode & 0o077 == 0, path
                with open(path, "rb") as file:
                    made[path] = file.read()
        member.kill()
        member.start()
        member.wait_healthy()
        for path, text in made.items():
            with open(path, "rb") as file:
                assert file.read() == text, path
        assert cluster.kvctl("get", "own", "--print-value-only", endpoint=member).stdout.strip() == "made"
    testing.step("--auto-tls and --peer-auto-tls: made once, kept, and served")


def bad_settings(args, authority):
    binary = args.implementation.binary
    cert, key = authority.path("member.pem"), authority.path("member.key")
    absent = authority.path("absent.pem")
    url = f"https://127.0.0.1:{free_port()}"
    client = ["--listen-client-urls", url, "--advertise-client-urls", url]
    peer = ["--listen-peer-urls", url, "--initial-advertise-peer-urls", url, "--initial-cluster", f"default={url}"]
    cases = [
        (client, f"TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"),
        (client + ["--cert-file", cert], f"KeyFile and CertFile must both be present[key: , cert: {cert}]"),
        (client + ["--cert-file", absent, "--key-file", key], f"open {absent}: no such file or directory"),
        (client + ["--cert-file", cert, "--key-file", authority.path("ca.key")], "no key of the certificate in"),
        (client + ["--cert-file", cert, "--key-file", key, "--trusted-ca-file", key], "no certificates in PEM form"),
        (client + ["--cert-file", cert, "--key-file", key, "--client-crl-file", absent], f"open {absent}: no such file"),
        (peer, f"cannot listen on TLS for {url[8:]}: KeyFile and CertFile are not presented"),
        (peer + ["--peer-key-file", key], f"KeyFile and CertFile must both be present[key: {key}, cert: ]"),
        (["--cipher-suites", "TLS_ROT13"], 'unexpected TLS cipher suite "TLS_ROT13"'),
        (["--auto-tls", "--self-signed-cert-validity=0"], "it should be greater than 0"),
        (["--peer-cert-allowed-cn", "a", "--peer-cert-allowed-hostname", "b"], "are mutually exclusive"),
    ]
    for flags, expected in cases:
        directory = os.path.join(authority.directory, "bad.etcd")
        ended = subprocess.run([binary, "--name", "default", "--data-dir", directory, *flags], capture_output=True,
                               text=True, timeout=20)
        text = ended.stderr.replace('\\"', '"')
        assert ended.returncode == 1 and expected in text, (flags, ended.returncode, ended.stderr)
        assert not os.path.exists(directory), flags
    testing.step(f"{len(cases)} wrong settings: one line each, and nothing written")


def main():
    args = testing.arguments(__doc__)
    for program in ("openssl", "curl"):
        testing.need_program(program)
    with Scratch() as directory:
        authority = Authority(directory)
        authority.issue("member")
        authority.issue("client", common_name="client", hosts="")
        bad_settings(args, authority)
        one_member(args, authority)
        three_members(args, authority, [args.implementation] * 3, "three members")
        own_certificates(args)


if __name__ == "__main__":
    main()
