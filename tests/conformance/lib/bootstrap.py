"""What new clusters find one another through, as real processes on loopback: a DNS server, discovery services; and
clusters whose members start with the flags of each way."""
import os
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request

from lib.cluster import (Cluster, Member, clean_environment, die_with_parent, free_port,
                         wait_until)

DOMAIN = "kvd.test"


class Process:
    """A process with its log, ended with the `with` block."""

    def __init__(self, directory, name, command):
        self.command = command
        self.log_path = os.path.join(directory, name + ".log")
        self.process = None
        self.start()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent, env=clean_environment())

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Scratch:
    """A directory that goes with the `with` block, unless KEEP is set."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="kvd-bootstrap-")
        return self.path

    def __exit__(self, *_):
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.path, ignore_errors=True)


def accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_dns(directory, records):
    """dnsmasq on a loopback port with these SRV records, (service, target, port) each."""
    port = free_port()
    command = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--no-daemon", "--conf-file=/dev/null",
               f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file",
               f"--address=/node.{DOMAIN}/127.0.0.1", f"--local=/{DOMAIN}/"]
    command += [f"--srv-host=_{service}._tcp.{DOMAIN},{target},{target_port}" for service, target, target_port in records]
    process = Process(directory, "dnsmasq", command)
    process.address = f"127.0.0.1:{port}"
    wait_until("dnsmasq listens", lambda: accepts(port), 10)
    return process


def start_service(directory, etcd_url):
    """Debian's etcd-discovery in front of an etcd."""
    port = free_port()
    process = Process(directory, "etcd-discovery",
                      ["discovery.etcd.io", "--etcd", etcd_url, "--host", f"http://127.0.0.1:{port}",
                       "--addr", f"127.0.0.1:{port}"])
    process.url = f"http://127.0.0.1:{port}"
    wait_until("etcd-discovery listens", lambda: accepts(port), 10)
    return process


def fetch(url, method="GET", data=None, timeout=10):
    """(status, headers, body) of a request."""
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def new_token(service_url, size):
    status, _, body = fetch(f"{service_url}/new?size={size}")
    assert status == 200 and body.startswith("http://"), (status, body)
    return body


class BootMember(Member):
    """A member that finds the others by `way`, a list of flags; `advertise` is the host of its peer URL."""

    def __init__(self, cluster, name, advertise="127.0.0.1"):
        super().__init__(cluster, name)
        self.advertise = advertise
        self.log_start = 0

    def start(self):
        self.log_start = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        super().start()

    def log(self):
        """Since the last start."""
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, errors="replace") as log:
            log.seek(self.log_start)
            return log.read()

    def command(self):
        peer = f"http://{self.advertise}:{self.peer_port}"
        return [
            self.cluster.implementation.binary,
            "-name", self.name,
            "--data-dir", self.data_dir,
            "--listen-client-urls", self.client_url,
            "--advertise-client-urls", self.client_url,
            "--listen-peer-urls", self.peer_url,
            "--initial-advertise-peer-urls", peer,
            *self.cluster.way,
            *self.cluster.args,
        ]


class BootCluster(Cluster):
    """Members that are given `way` instead of --initial-cluster. Not started by `with`."""

    def __init__(self, implementation, size=3, way=(), args=(), advertise="127.0.0.1"):
        super().__init__(implementation, 0, args)
        self.way = list(way)
        self.members = [BootMember(self, f"m{i}", advertise) for i in range(size)]

    def __enter__(self):
        return self

    def start(self):
        for member in self.members:
            member.start()

    def kvctl(self, args, *command):
        """kvctl without endpoints of its own; its output."""
        result = subprocess.run([os.path.join(args.bin_dir, "kvctl"), *command], capture_output=True, text=True,
                                timeout=30, env=clean_environment())
        assert result.returncode == 0, (command, result.stderr)
        return result.stdout

    def wait_healthy(self):
        for member in self.members:
            member.wait_healthy()


def assert_healthy(cluster, tool):
    """What an operator's eyes look for: three members, all of them healthy; a write comes through."""
    def ask(*command):
        result = subprocess.run([*tool, "--endpoints", cluster.endpoints, *command], capture_output=True, text=True,
                                timeout=30, env=clean_environment())
        return result.stdout + result.stderr

    listed = wait_until("all members are published",
                        lambda: (lambda out: out if out.count("started") == len(cluster.members) else "")(
                            ask("member", "list")), 30, 0.2)
    health = wait_until("all endpoints are healthy",
                        lambda: (lambda out: out if out.count("is healthy") == len(cluster.members) else "")(
                            ask("endpoint", "health")), 30, 0.2)
    cluster.etcdctl("put", "boot", "strapped")
    for member in cluster.members:
        got = cluster.etcdctl("get", "boot", "--print-value-only", endpoint=member).stdout.strip()
        assert got == "strapped", (member.name, got)
    print(listed.strip())
    print(health.strip())
    names = {line.split(", ")[2] for line in listed.strip().splitlines()}
    assert names == {member.name for member in cluster.members}, names
    print("cluster is healthy", flush=True)


def log_messages(text):
    """The messages of a JSON log, or the lines of another."""
    found = re.findall(r'"msg":"((?:[^"\\]|\\.)*)"', text)
    return found if found else text.splitlines()


def wait_log(member, pattern, timeout=30):
    def look():
        if not member.alive() and not re.search(pattern, member.log()):
            raise AssertionError(f"{member.name} ended with {member.process.returncode}:\n{member.log_tail()}")
        return re.search(pattern, member.log())

    try:
        return wait_until(f"{member.name} says {pattern!r}", look, timeout)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{member.log_tail()}") from None


def ends_with(member, pattern, timeout=30):
    """The member exits with 1, one line of level fatal that matches, and leaves its data directory untouched."""
    code = member.process.wait(timeout)
    fatal = [line for line in member.log().splitlines() if '"level":"fatal"' in line]
    assert code == 1, (code, member.log_tail())
    assert len(fatal) == 1, fatal
    assert re.search(pattern, fatal[0]), (pattern, fatal[0])
    assert not os.path.exists(member.data_dir), os.listdir(member.data_dir)
