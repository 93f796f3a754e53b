"""How the traces in traces/ were recorded: `python notebooks/record.py [NAME...]`, as root, on Linux with eBPF.

Each recipe is a program and the command that is traced; by default all are recorded, over those that are there.
The two of newosproc are older, and tests know their numbers. They were recorded at the top of the repository with

    sigwindow run -o TRACE -- tests/workloads/build/newosproc broken -t -s 5000 -n 199
    sigwindow run -o TRACE -- tests/workloads/build/newosproc fixed -t -s 5000 -n 199

Needs gcc, musl-gcc, go, rustc, javac, java, node, ruby and Debian's python3.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKLOADS = HERE.parent / "tests" / "workloads"

# Each program makes 97 threads (Node 11 workers) that live at the same time, with a handler for at least one signal.
GO = """\
package main
{extra}
import (
	"runtime"
	"sync"
)

func main() {{
	var ready, done sync.WaitGroup
	hold := make(chan bool)
	ready.Add(97)
	done.Add(97)
	for i := 0; i < 97; i++ {{
		go func() {{
			runtime.LockOSThread() // a thread for each
			ready.Done()
			<-hold
			done.Done()
		}}()
	}}
	ready.Wait()
	close(hold)
	done.Wait()
}}
"""
RUST = """\
use std::sync::{Arc, Barrier};

extern "C" fn on_signal(_: i32) {}
extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

fn main() {
    unsafe { signal(10, on_signal) }; // SIGUSR1
    let all = Arc::new(Barrier::new(98));
    let threads: Vec<_> = (0..97)
        .map(|_| {
            let all = all.clone();
            std::thread::spawn(move || { all.wait(); })
        })
        .collect();
    all.wait();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
"""
JAVA = """\
import java.util.concurrent.CountDownLatch;

class Threads {
    public static void main(String[] args) throws InterruptedException {
        var all = new CountDownLatch(97);
        for (int i = 0; i < 97; i++)
            new Thread(() -> {
                all.countDown();
                try { all.await(); } catch (InterruptedException e) { }
            }).start();
        all.await();
    }
}
"""
NODE = """\
const { Worker } = require('worker_threads');
process.on('SIGUSR2', () => {});
for (let i = 0; i < 11; i++) new Worker('', { eval: true });
"""
RUBY = """\
hold = Queue.new
threads = 97.times.map { Thread.new { hold.pop } }
hold.close
threads.each(&:join)
"""
PYTHON = """\
import signal
import threading

signal.signal(signal.SIGUSR1, lambda *_: None)
everybody = threading.Barrier(98)
for _ in range(97):
    threading.Thread(target=everybody.wait).start()
everybody.wait()
"""
# Threads that block a signal themselves after a random time, 20 ms on average; the process ends while some still wait.
LATE = """\
import os
import random
import signal
import threading
import time

signal.signal(signal.SIGUSR1, lambda *_: None)
chance = random.Random(3017)

def worker(wait_s):
    time.sleep(wait_s)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    time.sleep(1)

for _ in range(97):
    threading.Thread(target=worker, args=(chance.expovariate(1 / 0.020),)).start()
    time.sleep(0.0004)
time.sleep(0.010)
os._exit(0)
"""


@dataclass(frozen=True)
class Recipe:
    """A program and how it is traced.

    command: what is traced, in the folder of the program; build: what makes it there. source: its file name and text,
    unless it is one of tests/workloads.
    """

    command: list[str]
    source: tuple[str, str] | None = None
    build: tuple[str, ...] = ()


def _go(extra: str) -> str:
    return GO.format(extra=extra)


RECIPES = {
    "go": Recipe(["./go-threads"], ("go-threads.go", _go("")), ("go", "build", "go-threads.go")),
    "cgo": Recipe(["./cgo-threads"], ("cgo-threads.go", _go('\nimport "C"\n')), ("go", "build", "cgo-threads.go")),
    "rust": Recipe(["./rust-threads"], ("rust-threads.rs", RUST), ("rustc", "-O", "rust-threads.rs")),
    "java": Recipe(["java", "Threads"], ("Threads.java", JAVA), ("javac", "Threads.java")),
    "node": Recipe(["node", "threads.js"], ("threads.js", NODE)),
    "ruby": Recipe(["ruby", "threads.rb"], ("threads.rb", RUBY)),
    "python": Recipe(["python3", "threads.py"], ("threads.py", PYTHON)),
    "glibc": Recipe(["./workers", "plain", "-n", "97"]),
    "musl": Recipe(["./workers-musl", "plain", "-n", "97"]),
    "glibc-self": Recipe(["./workers", "self", "-n", "97"]),
    "late": Recipe(["python3", "late.py"], ("late.py", LATE)),
}


def record(name: str, recipe: Recipe) -> None:
    """Build the program of a recipe in a folder of its own and trace its command."""
    with tempfile.TemporaryDirectory() as folder:
        for program in ("workers", "workers-musl"):
            (Path(folder) / program).symlink_to(WORKLOADS / "build" / program)
        if recipe.source:
            (Path(folder) / recipe.source[0]).write_text(recipe.source[1], encoding="utf-8")
        if recipe.build:
            subprocess.run(recipe.build, cwd=folder, check=True)
        trace = HERE / "traces" / f"{name}.arrows"
        subprocess.run(
            [sys.executable, "-m", "sigwindow", "run", "--force", "-o", trace, "--", *recipe.command],
            cwd=folder,
            env={**os.environ, "PATH": "/usr/bin:/bin"},  # the distribution's own, not a version manager's scripts
            check=True,
        )
        print(f"{name}: {trace.stat().st_size:,} bytes", flush=True)


def main(names: list[str]) -> None:
    """Record the recipes of these names, or all."""
    subprocess.run(["make", "-s", "-C", WORKLOADS], check=True)
    for name in names or RECIPES:
        record(name, RECIPES[name])


if __name__ == "__main__":
    main(sys.argv[1:])
