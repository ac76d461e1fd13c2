"""What a disk holds after the power has failed, from the system calls of a process that were recorded with strace.

    trace = Trace(path, root)          the calls that change what is under `root`, in their order
    disk = Disk(trace.root)
    for call in trace.calls[:n]: disk.apply(call)
    disk.crash(rng).write_to(directory)

The model: bytes written since the last sync of a file may be there or not, each sector of 512 bytes by itself. The
size of a file, and names that were made, changed or removed, may be those of any moment since the last sync, names of
a directory in the order in which they changed, as on a file system with a journal."""
import os
import re

SECTOR = 512
CALLS = ("openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,fallocate,fsync,fdatasync,sync,syncfs,"
         "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,copy_file_range,sendfile")


def strace_command(output):
    """To be followed by the command to record, which keeps the process ID. File descriptors come with their paths,
    strings whole and in hex."""
    return ["strace", "--daemonize", "--follow-forks", "--seccomp-bpf", "--quiet=all", "--decode-fds=path", "--absolute-timestamps=unix,us",
            "--strings-in-hex=all", "--string-limit=100000000", "--output", output, "--trace", CALLS,
            "--signal=none"]


class Call:
    __slots__ = ("time", "name", "args")

    def __init__(self, time, name, args):
        self.time = time  # when it returned
        self.name = name
        self.args = args


LINE = re.compile(rb"^(\d+) +(\d+\.\d+) (.*)$")
RESUMED = re.compile(rb"^<\.\.\. \w+ resumed>(.*)$")
FINISHED = re.compile(rb"^(\w+)\((.*)\) += (-?\d+|\?)")
STRING = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"')
FD_PATH = re.compile(rb"^(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2}|[^>])*)>")


def unhex(text):
    return bytes.fromhex(text.decode().replace("\\x", ""))


def path_of(text):
    text = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m.group(1), 16)]), text)
    return os.fsdecode(text)


class Trace:
    def __init__(self, path, root):
        self.root = os.path.realpath(root)
        self.calls = []
        unfinished = {}
        with open(path, "rb") as lines:
            for line in lines:
                match = LINE.match(line.rstrip(b"\n"))
                if not match:
                    continue
                pid, time, text = match.groups()
                if text.endswith(b"<unfinished ...>"):
                    unfinished[pid] = text[:-len(b"<unfinished ...>")].rstrip()
                    continue
                resumed = RESUMED.match(text)
                if resumed:
                    text = unfinished.pop(pid, b"") + resumed.group(1)
                self.take(float(time), text)

    def take(self, time, text):
        match = FINISHED.match(text)
        if not match or match.group(3).startswith((b"-", b"?")):
            return
        name, args, result = match.group(1).decode(), match.group(2), int(match.group(3))
        call = self.decode(name, args, result)
        if call:
            self.calls.append(Call(time, *call))

    def inside(self, path):
        return path == self.root or path.startswith(self.root + "/")

    def strings(self, args):
        return [unhex(s) for s in STRING.findall(args)]

    def paths(self, args):
        """Of calls that name files: absolutely, or by the directory before the name."""
        directory = FD_PATH.match(args)
        base = path_of(directory.group(1)) if directory else "/"
        return [os.path.normpath(os.path.join(base, os.fsdecode(s))) for s in self.strings(args)]

    def decode(self, name, args, result):
        if name in ("openat", "creat"):
            path = self.paths(args)[0]
            if not self.inside(path) or (b"O_CREAT" not in args and b"O_TRUNC" not in args and name != "creat"):
                return None
            return "open", (path, b"O_TRUNC" in args or name == "creat")
        if name in ("mkdir", "mkdirat"):
            path = self.paths(args)[0]
            return ("mkdir", (path,)) if self.inside(path) and path != self.root else None
        if name in ("unlink", "unlinkat", "rmdir"):
            path = self.paths(args)[0]
            return ("unlink", (path,)) if self.inside(path) else None
        if name.startswith("rename") or name.startswith("link"):
            old, new = self.paths(args)[:2]
            kind = "rename" if name.startswith("rename") else "link"
            return (kind, (old, new)) if self.inside(new) else None
        fd = FD_PATH.match(args)
        path = fd and path_of(fd.group(1)).removesuffix(" (deleted)")
        if name in ("sync", "syncfs"):
            raise AssertionError(f"the trace holds {name}, which the model does not know")
        if not path or not self.inside(path):
            return None
        if name in ("fsync", "fdatasync"):
            return "sync", (path,)
        if name == "ftruncate":
            return "truncate", (path, int(args[fd.end():].split(b",")[1]))
        if name == "fallocate":
            mode, offset, length = (part.strip() for part in args[fd.end():].split(b",")[1:4])
            if b"PUNCH" in mode or b"COLLAPSE" in mode or b"ZERO" in mode:
                raise AssertionError(f"the trace holds fallocate {mode}, which the model does not know")
            return ("extend", (path, int(offset) + int(length))) if b"KEEP_SIZE" not in mode else None
        if name in ("write", "writev", "pwrite64", "pwritev", "pwritev2"):
            data = b"".join(self.strings(args))[:result]
            assert len(data) == result, f"strace has cut a {name}"
            if name in ("write", "writev"):
                return "append", (path, data)
            last = args.rsplit(b",", 2 if name == "pwritev2" else 1)[1]
            return "write", (path, int(last), data)
        raise AssertionError(f"the trace holds {name}, which the model does not know")


class File:
    def __init__(self):
        self.data = bytearray()
        self.size = 0
        self.at = 0  # where the next write goes that says no place; one descriptor a file
        self.synced = bytearray()
        self.synced_size = 0
        self.dirty = set()  # sectors written since the last sync
        self.sizes = []  # that the file had since then

    def write(self, offset, data):
        end = offset + len(data)
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data
        self.dirty.update(range(offset // SECTOR, (end + SECTOR - 1) // SECTOR))
        self.resize(max(self.size, end))

    def resize(self, size):
        if size < self.size:
            del self.data[size:]
        if size != self.size:
            self.sizes.append(self.size)
        self.size = size

    def sync(self):
        self.synced = bytearray(self.data)
        self.synced_size = self.size
        self.dirty.clear()
        self.sizes.clear()

    def crashed(self, rng):
        """The bytes (without zeros at the end) and the size that are left."""
        size = rng.choice([*self.sizes, self.size])
        left = bytearray(self.synced[:size])
        share = rng.random()
        for sector in sorted(self.dirty):
            new = self.data[sector * SECTOR:(sector + 1) * SECTOR]
            start = sector * SECTOR
            if start >= size or rng.random() < share:
                continue
            new = new[:size - start]
            if len(left) < start + len(new):
                left.extend(bytes(start + len(new) - len(left)))
            left[start:start + len(new)] = new
        return left, size


class Disk:
    GONE = object()

    def __init__(self, root):
        self.names = {root: None}  # path -> File, or None for a directory
        self.synced_names = {root: None}
        self.changes = {}  # directory -> [(path, File or None or GONE)], since its last sync

    def change(self, path, what):
        if what is Disk.GONE:
            self.names.pop(path, None)
        else:
            self.names[path] = what
        self.changes.setdefault(os.path.dirname(path), []).append((path, what))

    def apply(self, call):
        getattr(self, "on_" + call.name)(*call.args)

    def file(self, path):
        file = self.names.get(path)
        assert file is not None, f"the trace writes to {path}, which it has not made"
        return file

    def on_open(self, path, truncate):
        if path not in self.names:
            self.change(path, File())
        elif truncate and self.names[path] is not None:
            self.names[path].resize(0)
        if self.names[path] is not None:
            self.names[path].at = 0

    def on_mkdir(self, path):
        self.change(path, None)

    def on_unlink(self, path):
        self.change(path, Disk.GONE)

    def on_rename(self, old, new):
        moved = self.names[old]
        below = [(p, f) for p, f in self.names.items() if p.startswith(old + "/")]
        self.change(old, Disk.GONE)
        self.change(new, moved)
        for path, file in below:
            self.change(path, Disk.GONE)
            self.change(new + path[len(old):], file)

    def on_link(self, old, new):
        self.change(new, self.names[old])

    def on_write(self, path, offset, data):
        if path in self.names:  # otherwise it was removed while open
            self.file(path).write(offset, data)

    def on_append(self, path, data):
        if path in self.names:
            file = self.file(path)
            file.write(file.at, data)
            file.at += len(data)

    def on_truncate(self, path, size):
        if path in self.names:
            self.file(path).resize(size)

    def on_extend(self, path, size):
        if path in self.names:
            self.file(path).resize(max(self.file(path).size, size))

    def on_sync(self, path):
        if path not in self.names:
            return
        if self.names[path] is not None:
            self.names[path].sync()
            return
        for changed, what in self.changes.pop(path, []):
            self.settle(self.synced_names, changed, what)

    @staticmethod
    def settle(names, path, what):
        if what is Disk.GONE:
            names.pop(path, None)
        else:
            names[path] = what

    def crash(self, rng):
        """{path: (bytes, size), or None for a directory} that a power failure now would leave."""
        names = dict(self.synced_names)
        for changes in self.changes.values():
            for path, what in changes[:rng.randint(0, len(changes))]:
                self.settle(names, path, what)
        return {path: file and file.crashed(rng) for path, file in names.items()}


def write_out(state, root, directory):
    """Puts the state of `root` into a new directory."""
    os.makedirs(directory, mode=0o700)
    for path in sorted(state):
        at = directory + path[len(root):]
        # A name whose directory was lost is lost with it.
        if at == directory or not os.path.isdir(os.path.dirname(at)):
            continue
        if state[path] is None:
            os.makedirs(at, mode=0o700, exist_ok=True)
            continue
        data, size = state[path]
        with open(at, "wb") as out:
            out.write(data)
            out.truncate(size)
