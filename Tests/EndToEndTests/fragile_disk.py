"""A file system that forgets what was not synced when its power is cut, and fails as it is told to: FUSE, in a process of its own.

What is kept is what POSIX promises and no more. A file's octets are on the disk once the file was synced; a name is once its folder was,
so a file that was created or renamed can be lost, or be back under its old name, though its octets were synced. Of what was not synced, a cut keeps
nothing, all, the beginning, or any part, torn at sectors. A sync that fails forgets as Linux does: what it should have written
can still be read, is clean, and reaches the disk with no later sync.

    disk = FragileDisk(folder)                  # mounts
    disk.cut(seed)                              # from now on nothing works any more; kill who uses it, then
    disk.restore()                              # what was on the disk is there again
    disk.fail(["write"], "EIO", after=3)        # the fourth write; times=None: every one from then on
    disk.mend()
    disk.unmount()
"""

import errno
import functools
import json
import os
import random
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SECTOR = 512
CHANGING = ("write", "truncate", "create", "mknod", "mkdir", "rename", "unlink", "rmdir")
SYNCING = ("fsync", "fsyncdir")


class Node:
    """A file or a folder: what is read now, what is on the disk, and what has happened in between."""

    count = 0

    def __init__(self, mode):
        Node.count += 1
        self.number, self.mode, self.owner, self.time = Node.count, mode, (os.getuid(), os.getgid()), time.time()
        self.pending = []
        self.now, self.kept = ({}, {}) if stat.S_ISDIR(mode) else (bytearray(), bytearray())

    @property
    def is_folder(self):
        return stat.S_ISDIR(self.mode)

    def change(self, *changes):
        """What is done together is kept or lost together."""
        self.time = time.time()
        self.pending.append(changes)
        for change in changes:
            self.apply(self.now, change)

    @staticmethod
    def apply(image, change):
        kind, *arguments = change
        if kind == "write":
            offset, octets = arguments
            image.extend(bytes(max(0, offset - len(image))))
            image[offset : offset + len(octets)] = octets
        elif kind == "size":
            del image[arguments[0] :]
            image.extend(bytes(arguments[0] - len(image)))
        elif kind == "name":
            image[arguments[0]] = arguments[1]
        else:
            image.pop(arguments[0], None)

    def sync(self):
        for changes in self.pending:
            for change in changes:
                self.apply(self.kept, change)
        self.pending.clear()

    def lose(self, chance):
        """Keeps some of what was not synced, as the way says that this cut has."""
        way = chance.choice(["nothing", "all", "beginning", "any", "any", "torn"])
        # A folder's changes reach the disk in their order, as they do where there is a journal of them.
        if self.is_folder and way in ("any", "torn"):
            way = "beginning"
        if way == "beginning":
            del self.pending[chance.randrange(len(self.pending) + 1) :]
        elif way in ("any", "torn"):
            self.pending = [changes for changes in self.pending if chance.random() < 0.5]
        elif way == "nothing":
            self.pending.clear()
        if way == "torn":
            self.pending = [[piece] for changes in self.pending for change in changes for piece in self.pieces(change, chance)]
        self.sync()
        self.now = type(self.kept)(self.kept)

    @staticmethod
    def pieces(change, chance):
        if change[0] != "write":
            return [change]
        _, offset, octets = change
        bounds = [0, *range(SECTOR - offset % SECTOR, len(octets), SECTOR), len(octets)]
        return [("write", offset + a, octets[a:b]) for a, b in zip(bounds, bounds[1:]) if chance.random() < 0.6]


class Rule:
    """Makes calls fail: those of the kinds named on files whose path ends so, after so many that work, so many times."""

    def __init__(self, calls, error, after=0, times=1, path=""):
        self.calls, self.error, self.after, self.times, self.path = calls, getattr(errno, error), after, times, path
        self.hits = 0

    def strikes(self, call, path):
        if call not in self.calls or not path.endswith(self.path):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            if self.times == 0:
                return False
            self.times -= 1
        self.hits += 1
        return True


class Contents:
    """The operations, as fusepy calls them: one at a time."""

    def __init__(self):
        self.turn = threading.Lock()
        self.root = Node(stat.S_IFDIR | 0o755)
        self.open_files, self.handle = {}, 0
        self.rules, self.calls, self.is_dead, self.chance = [], {}, False, None

    def __call__(self, call, *arguments):
        operation = getattr(self, call, None)
        if operation is None:
            raise OSError(errno.ENOSYS, call)
        with self.turn:
            if call not in ("init", "destroy", "release", "getattr", "statfs", "opendir", "releasedir", "flush"):
                self.meet_fault(call, arguments)
            return operation(*arguments)

    def meet_fault(self, call, arguments):
        if self.is_dead:
            raise OSError(errno.EIO, "power")
        self.calls[call] = self.calls.get(call, 0) + 1
        for rule in self.rules:
            if rule.strikes(call, str(arguments[0])):
                if call in SYNCING:
                    self.forget(call, *arguments)
                raise OSError(rule.error, call)

    def forget(self, call, path, _, handle):
        node = self.open_files[handle] if call == "fsync" else self.find(path)
        if not node.is_folder:
            node.pending.clear()

    # MARK: what the test says

    def obey(self, order):
        with self.turn:
            what = order.pop("order")
            if what == "cut":
                self.is_dead, self.chance = True, random.Random(order["seed"])
            elif what == "restore":
                self.restore(self.root)
                self.open_files.clear()
                self.is_dead, self.rules = False, []
            elif what == "fail":
                self.rules.append(Rule(**order))
            elif what == "mend":
                self.rules = []
            return {"calls": self.calls, "hits": [rule.hits for rule in self.rules]}

    def restore(self, node):
        node.lose(self.chance)
        if node.is_folder:
            for child in node.now.values():
                self.restore(child)

    # MARK: names

    def find(self, path):
        node = self.root
        for name in path.strip("/").split("/"):
            if name:
                if not node.is_folder or name not in node.now:
                    raise OSError(errno.ENOENT, path)
                node = node.now[name]
        return node

    def place(self, path):
        folder, name = path.rsplit("/", 1)
        return self.find(folder), name

    def init(self, _):
        return 0

    destroy = access = flush = opendir = releasedir = lambda self, *_: 0

    def getattr(self, path, handle=None):
        node = self.open_files.get(handle) or self.find(path)
        size = 4096 if node.is_folder else len(node.now)
        return {"st_ino": node.number, "st_mode": node.mode, "st_nlink": 1, "st_size": size, "st_blocks": -(-size // 512), "st_uid": node.owner[0],
                "st_gid": node.owner[1], "st_mtime": node.time, "st_ctime": node.time, "st_atime": node.time}

    def readdir(self, path, _):
        return [".", "..", *self.find(path).now]

    def statfs(self, _):
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bfree": 1 << 19, "f_bavail": 1 << 19, "f_namemax": 255}

    def mkdir(self, path, mode):
        folder, name = self.place(path)
        folder.change(("name", name, Node(stat.S_IFDIR | mode)))

    def mknod(self, path, mode, _):
        folder, name = self.place(path)
        folder.change(("name", name, Node(mode)))

    def unlink(self, path):
        self.find(path)
        folder, name = self.place(path)
        folder.change(("gone", name))

    rmdir = unlink

    def rename(self, old, new):
        node = self.find(old)
        (source, before), (target, after) = self.place(old), self.place(new)
        if source is target:
            source.change(("name", after, node), ("gone", before))
        else:
            target.change(("name", after, node))
            source.change(("gone", before))

    def chmod(self, path, mode):
        node = self.find(path)
        node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)

    def chown(self, path, user, group):
        self.find(path).owner = (user, group)

    def utimens(self, path, times=None):
        self.find(path).time = times[1] if times else time.time()

    # MARK: files

    def opened(self, node):
        self.handle += 1
        self.open_files[self.handle] = node
        return self.handle

    def create(self, path, mode, *_):
        folder, name = self.place(path)
        node = Node(stat.S_IFREG | stat.S_IMODE(mode))
        folder.change(("name", name, node))
        return self.opened(node)

    def open(self, path, flags):
        return self.opened(self.find(path))

    def release(self, _, handle):
        self.open_files.pop(handle, None)

    def read(self, _, size, offset, handle):
        return bytes(self.open_files[handle].now[offset : offset + size])

    def write(self, _, octets, offset, handle):
        self.open_files[handle].change(("write", offset, octets))
        return len(octets)

    def truncate(self, path, length, handle=None):
        (self.open_files.get(handle) or self.find(path)).change(("size", length))

    def fsync(self, path, _, handle):
        self.open_files[handle].sync()

    def fsyncdir(self, path, _, handle):
        self.find(path).sync()


def serve(mount, control):
    """Mounts, and obeys until it is unmounted."""
    from fuse import FUSE

    contents = Contents()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(control)
    listener.listen(1)

    def obey():
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw") as lines:
                for line in lines:
                    lines.write(json.dumps(contents.obey(json.loads(line))) + "\n")
                    lines.flush()

    threading.Thread(target=obey, daemon=True).start()
    # The kernel writes through, and drops what it has cached of a file when it is opened; of names and sizes it keeps nothing.
    FUSE(contents, mount, foreground=True, nothreads=True, big_writes=True, use_ino=True, attr_timeout=0, entry_timeout=0, negative_timeout=0,
         default_permissions=True, fsname="fragile")


def missing():
    """Why there can be no such disk here; None where there can."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if os.geteuid() != 0:
        return "file systems are mounted by root"
    try:
        import fuse  # noqa: F401
    except (ImportError, OSError) as error:
        return f"fusepy or libfuse2 is missing: {error}"
    return mounting()


@functools.cache
def mounting():
    """Why nothing can be mounted here, as in a container without the right to; None where something was."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            FragileDisk(Path(folder) / "disk").unmount()
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            return f"nothing can be mounted: {error}"
    return None


class FragileDisk:
    """The disk as a test sees it."""

    def __init__(self, folder):
        self.folder, control = Path(folder), str(folder) + ".control"
        self.folder.mkdir(parents=True)
        self.process = subprocess.Popen([sys.executable, __file__, str(folder), control])
        deadline = time.monotonic() + 10
        while not os.path.ismount(folder):
            assert self.process.poll() is None and time.monotonic() < deadline, "the file system was not mounted"
            time.sleep(0.02)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(control)
        self.lines = self.socket.makefile("rw")

    def order(self, what, **arguments):
        self.lines.write(json.dumps({"order": what, **arguments}) + "\n")
        self.lines.flush()
        return json.loads(self.lines.readline())

    def cut(self, seed):
        self.order("cut", seed=seed)

    def restore(self):
        self.order("restore")

    def fail(self, calls, error, after=0, times=1, path=""):
        self.order("fail", calls=list(calls), error=error, after=after, times=times, path=path)

    def mend(self):
        self.order("mend")

    def calls(self):
        """How often each call was made."""
        return self.order("look")["calls"]

    def hits(self):
        """How often each of the rules has struck."""
        return self.order("look")["hits"]

    def unmount(self):
        self.lines.close()
        self.socket.close()
        # A proxy that a failed test has left behind may still have files open.
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unmount()


if __name__ == "__main__":
    serve(*sys.argv[1:])
