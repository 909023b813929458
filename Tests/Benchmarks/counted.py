"""What a request costs beside CPU: system calls, as perf counts them, and allocations, as a library before the C library's counts them."""

import mmap
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

from processes import process_tree

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

static unsigned long spare[1], *count = spare;
static void *(*next_malloc)(size_t), *(*next_calloc)(size_t, size_t), *(*next_realloc)(void *, size_t);
static int (*next_aligned)(void **, size_t, size_t);
static char early[65536];
static size_t early_used;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("ALLOCATIONS_FILE");
  int file = path ? open(path, O_RDWR) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (page != MAP_FAILED) count = page;
}

static void *from_early(size_t size) {
  size_t at = (early_used + 15) & ~15ul;
  if (at + size > sizeof early) abort();
  early_used = at + size;
  return early + at;
}

#define NEXT(name, variable) if (!variable) variable = dlsym(RTLD_NEXT, name)
#define COUNT() __atomic_fetch_add(count, 1, __ATOMIC_RELAXED)

void *malloc(size_t size) { NEXT("malloc", next_malloc); COUNT(); return next_malloc(size); }
void *realloc(void *old, size_t size) { NEXT("realloc", next_realloc); COUNT(); return next_realloc(old, size); }
int posix_memalign(void **place, size_t align, size_t size) { NEXT("posix_memalign", next_aligned); COUNT(); return next_aligned(place, align, size); }
void *calloc(size_t many, size_t size) {
  static __thread int within;
  if (!next_calloc) {
    if (within) return from_early(many * size);
    within = 1;
    NEXT("calloc", next_calloc);
    within = 0;
  }
  COUNT();
  return next_calloc(many, size);
}
"""


class Allocations:
    """Counts what a process allocates that is started with `environment`; nothing where no C compiler is there."""

    def __init__(self, folder):
        self.environment = {}
        compiler = shutil.which("cc") or shutil.which("clang") or shutil.which("gcc")
        if not compiler:
            return
        library, counts, source = folder / "allocations.so", folder / "allocations", folder / "allocations.c"
        source.write_text(SOURCE)
        counts.write_bytes(bytes(4096))
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True, capture_output=True)
        with counts.open("r+b") as file:
            self.page = mmap.mmap(file.fileno(), 4096)
        self.environment = {"LD_PRELOAD": str(library), "ALLOCATIONS_FILE": str(counts)}

    def count(self):
        return struct.unpack("Q", self.page[:8])[0] if self.environment else None


class SystemCalls:
    """Counts the system calls of a process while the context lasts; `count` stays None where perf cannot."""

    def __init__(self, pid):
        self.pid, self.count = pid, None

    def __enter__(self):
        self.perf = None
        if shutil.which("perf"):
            command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, process_tree(self.pid)))]
            self.perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            time.sleep(0.3)
        return self

    def __exit__(self, *_):
        if self.perf:
            self.perf.send_signal(signal.SIGINT)
            first = self.perf.communicate(timeout=10)[1].strip().split(",")[0]
            self.count = int(first) if first.isdigit() else None


def resident(pid):
    """Octets of a process that are in memory, without what it shares with others."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(("Private_Clean", "Private_Dirty")))
