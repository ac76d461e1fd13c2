"""An authority and its certificates, made with the openssl command line; and clusters that use them."""
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request

from lib.cluster import Cluster, Member, clean_environment


class Authority:
    """Certificates as files in a directory: ca.pem, and NAME.pem with NAME.key for each that is issued."""

    def __init__(self, directory):
        self.directory = directory
        self.ca = self.path("ca.pem")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                      "-subj", "/CN=kvd test authority", "-addext", "basicConstraints=critical,CA:TRUE",
                      "-keyout", self.path("ca.key"), "-out", self.ca)

    def path(self, name):
        return os.path.join(self.directory, name)

    def issue(self, name, common_name="kvd", hosts="IP:127.0.0.1,DNS:localhost", days=1):
        """(certificate, key)"""
        request, extensions = self.path(name + ".csr"), self.path(name + ".ext")
        cert, key = self.path(name + ".pem"), self.path(name + ".key")
        with open(extensions, "w") as file:
            file.write("keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n")
            if hosts:
                file.write(f"subjectAltName={hosts}\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-subj", f"/CN={common_name}", "-keyout", key + ".next", "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.path("ca.key"), "-days", str(days),
                      "-extfile", extensions, "-out", cert + ".next")
        os.replace(key + ".next", key)
        os.replace(cert + ".next", cert)
        return cert, key

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


class TlsMember(Member):
    """A member with https on both its ports; `implementation` may be another one than that of the cluster."""

    def __init__(self, cluster, name, implementation=None):
        super().__init__(cluster, name)
        self.implementation = implementation or cluster.implementation
        self.way = None  # the flags it finds the others by, instead of --initial-cluster

    @property
    def client_url(self):
        return f"https://127.0.0.1:{self.client_port}"

    @property
    def peer_url(self):
        return f"https://127.0.0.1:{self.peer_port}"

    @property
    def endpoint(self):
        return self.client_url

    def command(self):
        command = [self.implementation.binary, *super().command()[1:]]
        if self.way is not None:
            at = command.index("--initial-cluster")
            command[at:at + 4] = self.way
        return command

    def get(self, path, timeout=2):
        """The body of https://…/path, with the client's certificate."""
        with urllib.request.urlopen(self.client_url + path, timeout=timeout, context=self.cluster.context) as response:
            return response.read().decode()

    def healthy(self):
        if not self.alive():
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log_tail()}")
        try:
            return json.loads(self.get("/health")).get("health") == "true"
        except (OSError, ValueError, urllib.error.URLError):
            return False


class TlsCluster(Cluster):
    """Members under TLS. `tool_flags` are what etcdctl and kvctl need to reach them."""

    def __init__(self, implementations, args=(), authority=None):
        super().__init__(implementations[0], 0, args)
        self.found([TlsMember(self, f"m{i}", one) for i, one in enumerate(implementations)])
        self.authority = authority
        self.context = ssl.create_default_context(cafile=authority.ca if authority else None)
        if authority:
            cert, key = authority.path("client.pem"), authority.path("client.key")
            self.context.load_cert_chain(cert, key)
            self.tool_flags = ["--cacert", authority.ca, "--cert", cert, "--key", key]
        else:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
            self.tool_flags = ["--insecure-transport=false", "--insecure-skip-tls-verify"]

    def etcdctl(self, *args, endpoint=None, check=True, timeout=30, stdin=None):
        return super().etcdctl(*self.tool_flags, *args, endpoint=endpoint, check=check, timeout=timeout, stdin=stdin)

    def kvctl(self, *args, endpoint=None, check=True, timeout=60):
        return super().kvctl(*self.tool_flags, *args, endpoint=endpoint, check=check, timeout=timeout)


def run(command, environment=None, timeout=30):
    """A program that may fail: its result, with both outputs as text."""
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout,
                          env={**clean_environment(), **(environment or {})})
