"""Processes on cores of their own, and the CPU that they use."""

import socket
import time
from pathlib import Path

PROXY_CORE, LOAD_CORE = 0, 1


def pinned(core, command):
    return ["taskset", "-c", str(core), *command]


def wait_for_port(port, deadline=10):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def process_tree(pid):
    pids = [pid]
    for parent in pids:
        children = Path(f"/proc/{parent}/task/{parent}/children")
        if children.exists():
            pids += [int(child) for child in children.read_text().split()]
    return pids


def cpu_nanoseconds(pid):
    total = 0
    for process in process_tree(pid):
        for task in Path(f"/proc/{process}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total
