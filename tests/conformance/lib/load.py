"""The clients of killload, as an object."""
import subprocess

from lib.cluster import clean_environment, die_with_parent


class Load:
    def __init__(self, program, cluster, clients=64, value_bytes=64):
        self.process = subprocess.Popen([program, cluster.endpoints, str(clients), str(value_bytes)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=clean_environment(), preexec_fn=die_with_parent)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"the load ended at {line!r}"
        return answer

    def run(self):
        self.ask("run")

    def stop(self):
        return int(self.ask("stop").split()[1])

    def count(self, writes):
        return int(self.ask(f"count {writes}").split()[1])

    def mark(self):
        self.ask("mark")

    def silence(self):
        """Seconds: the longest time without an acknowledgement since mark."""
        return int(self.ask("silence")) / 1000

    def verify(self, member):
        answer = self.ask(f"verify {member.endpoint}")
        assert answer.startswith("equal "), f"{member.name}: {answer}"
        return int(answer.split()[1])
