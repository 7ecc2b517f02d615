"""What people do on a machine, as jobs for every wall: a name, what it needs, what it must print.

One table: the tests run it, and docs/work.md shows it with what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from work import made

__all__ = ["JOBS", "WALLS", "Job"]

#: The walls by the names that the page has, and what opens each.
WALLS: Mapping[str, str] = {
    "landlock": "landlock",
    "bubblewrap": "bubblewrap",
    "docker": "docker:stockade-test/work?pull=never",
}


@attrs.frozen(kw_only=True)
class Job:
    """One thing that people do."""

    name: str  #: as the page has it
    needs: str  #: shell lines that succeed where the programs are there, one a line
    script: str  #: a shell line, in the working folder of a fresh session
    prints: str  #: all of its standard output
    files: Mapping[str, bytes] = attrs.field(factory=dict)  #: in the working folder
    #: Names that lead to the tests' own server: ``NAME`` by HTTP at ``$PORT``, and with ``tls``
    #: before it by TLS at ``$TLS_PORT``.
    hosts: Sequence[str] = ()
    options: Mapping[str, object] = attrs.field(factory=dict)  #: of the configuration
    long: bool = False  #: needs packages of some hundred megabytes: in the long form alone
    #: Why it does not work, by the wall: there it must fail.
    cannot: Mapping[str, str] = attrs.field(factory=dict)


def _text(**files: str) -> dict[str, bytes]:
    return {name.replace("__", "."): text.encode() for name, text in files.items()}


#: A server in the background and a client; the server is ``$server``.
_SERVES = """echo here > page
python3 -m http.server 8000 --bind 127.0.0.1 > log 2>&1 & server=$!
curl -s --retry 30 --retry-connrefused --retry-delay 1 http://localhost:8000/page
curl -sS http://127.0.0.1:8000/page
"""
_NAMED = "git config --global user.name A; git config --global user.email a@b.example\n"

JOBS: Sequence[Job] = (
    Job(
        name="git: clone, commit, push, worktree, gc",
        needs="git --version",
        script=_NAMED
        + """set -e
git init -q -b main origin; cd origin; seq 100 > file; git add .; git commit -qm first; cd ..
git clone -q origin copy; cd copy
sed -i 50d file; git commit -qam second; git push -q origin HEAD:topic
git worktree add -q ../tree -b side; cd ../tree
git mv file moved; git commit -qm third
git -C ../copy merge -q side; git -C ../copy gc -q; git -C ../copy fsck --no-progress
git -C ../origin log --oneline --all | wc -l; git -C ../copy log --oneline | wc -l
git -C ../copy status --short""",
        prints="2\n3\n",
    ),
    Job(
        name="patch, `git apply`, diff",
        needs="patch --version\ngit --version",
        script="""set -e
mkdir a b; seq 9 > a/f; sed s/5/five/ a/f > b/f; diff -u a/f b/f > change || true
cp a/f f; patch -s -p 1 < change; cmp f b/f; git apply -R change; cmp f a/f
git apply change; sed -n 5p f""",
        prints="five\n",
    ),
    Job(
        name="ripgrep, jq",
        needs="rg --version\njq --version",
        script="""set -e
mkdir -p src/deep; echo 'needle here' > src/deep/a; echo hay > src/b
rg -l needle src; rg --json needle | jq -r 'select(.type == "match").data.lines.text'""",
        prints="src/deep/a\nneedle here\n\n",
    ),
    Job(
        name="gcc, `./a.out`",
        needs="gcc --version\ntest -e /usr/include/stdio.h",
        script="gcc -O2 -pthread hello.c -o hello && ./hello",
        prints="hello from a thread\n",
        files=_text(
            hello__c="""#include <pthread.h>
#include <stdio.h>
static void *work(void *words) { puts(words); return 0; }
int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, work, "hello from a thread")) return 1;
    return pthread_join(thread, 0);
}
"""
        ),
    ),
    Job(
        name="make, in parallel",
        needs="make --version\ngcc --version\ntest -e /usr/include/stdio.h",
        script="make -s -j 4 && ./all && make -q && touch two.c && ! make -q",
        prints="3\n",
        files=_text(
            Makefile="""all: one.o two.o
\t$(CC) -o $@ $^
""",
            one__c="""#include <stdio.h>
int two(void);
int main(void) { return printf("%d\\n", 1 + two()) < 0; }
""",
            two__c="int two(void) { return 2; }\n",
        ),
    ),
    Job(
        name="`python -m venv`, `pip install` of a wheel",
        needs="python3 -c 'import venv, ensurepip'",
        script="""set -e
python3 -m venv .venv; . .venv/bin/activate
pip install -q --no-index ./greeting-1.0-py3-none-any.whl
greet; python -c 'import greeting; print(greeting.__file__)'; pip uninstall -q -y greeting
test ! -e .venv/bin/greet""",
        prints="hello from a wheel\n/workspace/.venv/lib/VERSION/site-packages/greeting.py\n",
        files={"greeting-1.0-py3-none-any.whl": made.GREETING},
    ),
    Job(
        name="`pip install` from an allowed index",
        needs="python3 -c 'import venv, ensurepip'",
        script="""set -e
python3 -m venv .venv
.venv/bin/pip install -q --cert index.pem --index-url https://pypi.internal:$TLS_PORT/simple salute
.venv/bin/python -m salute
! curl -sS https://pypi.other/simple/ 2> refused; grep -o 'response 403' refused""",
        prints="hello from a wheel, saluted\nresponse 403\n",
        hosts=("tls pypi.internal",),
    ),
    Job(
        name="`pytest -n 2`",
        needs="python3 -c 'import pytest, xdist'",
        script="python3 -m pytest -q -n 2 > seen; tail -n 1 seen | grep -o '8 passed'",
        prints="8 passed\n",
        files=_text(
            test_it__py="""import multiprocessing, subprocess, pytest

@pytest.mark.parametrize("number", range(8))
def test_it(number, tmp_path):
    (tmp_path / "f").write_text(str(number))
    assert subprocess.check_output(["cat", tmp_path / "f"], text=True) == str(number)
"""
        ),
    ),
    Job(
        name="multiprocessing by fork, spawn and forkserver",
        needs="python3 --version",
        script="python3 many.py",
        prints="fork 285 4 True\nspawn 285 4 True\nforkserver 285 4 True\n",
        files=_text(
            many__py="""import multiprocessing
from multiprocessing import shared_memory

def square(number):
    return number * number

def add(counter, queue, name):
    for _ in range(100):
        with counter.get_lock():
            counter.value += 1
    block = shared_memory.SharedMemory(name)
    queue.put(block.buf[0])
    block.close()

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            total = sum(pool.map(square, range(10)))
        block = shared_memory.SharedMemory(create=True, size=1 << 20)
        block.buf[0] = 2
        counter, queue = context.Value("i", 0), context.Queue()
        workers = [context.Process(target=add, args=(counter, queue, block.name)) for _ in "ab"]
        for worker in workers:
            worker.start()
        seen = sum(queue.get() for _ in workers)
        for worker in workers:
            worker.join()
        block.close()
        block.unlink()
        print(method, total, seen, counter.value == 200)
"""
        ),
    ),
    Job(
        name="sqlite3 in WAL, several writers",
        needs="sqlite3 --version",
        script="""set -e
sqlite3 db 'pragma journal_mode = wal; create table t (x);'
for writer in 1 2 3; do
  for row in 1 2 3 4 5; do sqlite3 db '.timeout 20000' "insert into t values ($writer)"; done &
done; wait
sqlite3 db 'select count(*), sum(x) from t; pragma wal_checkpoint(truncate);'""",
        prints="wal\n15|30\n0|0|0\n",
    ),
    Job(
        name="tar, rsync, `find -exec`, with modes, times and links",
        needs="rsync --version\ntar --version\nfind --version",
        script="""set -e
mkdir -p a/deep; echo x > a/deep/f; chmod 640 a/deep/f; touch -d 2001-02-03T04:05:06 a/deep/f
ln a/deep/f a/hard; ln -s deep/f a/soft; printf '#!/bin/sh\\necho ran\\n' > a/run; chmod 755 a/run
tar czf a.tgz a; mkdir out; tar xzpf a.tgz -C out; rsync -aH out/a/ copy/; rsync -aHn --delete \\
  --itemize-changes a/ copy/
find copy -type f -perm -100 -exec {} \\; ; find copy -name f -exec chmod 600 {} +
stat -c '%a %h %Y' copy/hard; readlink copy/soft""",
        prints="ran\n600 2 981173106\ndeep/f\n",
    ),
    Job(
        name="a web server and a client",
        needs="curl --version\npython3 --version",
        script=_SERVES + "kill $server",
        prints="here\nhere\n",
    ),
    Job(
        name="the same while a host is allowed",
        needs="curl --version\npython3 --version",
        script=_SERVES + "curl -sS http://files.internal:$PORT/page; kill $server",
        prints="here\nhere\nfrom the host's server\n",
        hosts=("files.internal",),
    ),
    Job(
        name="`apt-get download`, without root",
        needs="apt-get --version\ndpkg-deb --version",
        script="""set -e
export APT_CONFIG=$PWD/apt.conf
mkdir -p apt/etc/apt/apt.conf.d apt/etc/apt/preferences.d apt/etc/apt/trusted.gpg.d \\
  apt/var/lib/apt/lists/partial apt/var/cache/apt/archives/partial
echo "deb [trusted=yes] http://debian.internal:$PORT/debian ./" > apt/etc/apt/sources.list
: > apt/status
apt-get -qq update; apt-get -qq download greeting
dpkg-deb -x greeting_1.0_all.deb out; cat out/usr/share/greeting""",
        prints="hello from a package\n",
        files=_text(
            apt__conf="""Dir "/workspace/apt";
Dir::State::status "/workspace/apt/status";
"""
        ),
        hosts=("debian.internal",),
    ),
    Job(
        name="listing network interfaces",
        needs="python3 --version",
        script="python3 -c 'import socket; print(socket.if_nameindex()[0][1])'",
        prints="lo\n",
    ),
    Job(
        name="following files (inotify)",
        needs="tail --version",
        script="""touch log; tail -n +1 -F log > seen 2> told & follows=$!
for line in one two; do
  echo $line > log; until grep -s $line seen; do sleep 0.1; done; mv log $line
done; kill $follows; grep inotify told""",
        prints="one\ntwo\n",
    ),
    Job(
        name="node",
        needs="node --version",
        script="node it.js",
        prints='["c","b","a"] 42 lo\n',
        files=_text(
            it__js="""const { Worker, isMainThread, parentPort } = require('worker_threads');
const os = require('os');
if (!isMainThread) parentPort.postMessage(42);
else new Worker(__filename).on('message', (number) =>
  console.log(JSON.stringify(['a', 'b', 'c'].reverse()), number,
    Object.keys(os.networkInterfaces())[0]));
"""
        ),
        long=True,
    ),
    Job(
        name="`npm install` of a tarball, and from an allowed registry",
        needs="npm --version",
        script="""set -e
npm init -y > /dev/null; export npm_config_registry=http://npm.internal:$PORT npm_config_audit=false
npm install --silent ./left-1.0.0.tgz; npm install --silent right
node -e "console.log(require('left'), require('right'))"; npx --offline right""",
        prints="left right\nrun by npx\n",
        files={"left-1.0.0.tgz": made.LEFT},
        hosts=("npm.internal",),
        long=True,
    ),
    Job(
        name="`java A.java`",
        needs="java --version",
        script="java A.java",
        prints="[1, 2, 3] 2\n",
        files=_text(
            A__java="""import java.util.*;
import java.util.stream.*;

public class A {
    public static void main(String[] given) throws Exception {
        Thread thread = new Thread(() -> List.of(3, 1, 2).parallelStream().sorted().toList());
        thread.start();
        thread.join();
        System.out.println(Stream.of(3, 1, 2).sorted().toList() + " " + List.of(1, 2).size());
    }
}
"""
        ),
        long=True,
    ),
    Job(
        name="`go run`",
        needs="go version",
        script="go run main.go",
        prints="6\n",
        files=_text(
            main__go="""package main

import "fmt"

func main() {
	numbers := make(chan int)
	for number := 1; number <= 3; number++ {
		go func(number int) { numbers <- number }(number)
	}
	fmt.Println(<-numbers + <-numbers + <-numbers)
}
"""
        ),
        options={"memory_mb": 1024},
        long=True,
    ),
    Job(
        name="strace, gdb: looking into another process",
        needs="strace --version",
        script="strace -o seen true && grep -c exit_group seen",
        prints="1\n",
        cannot=dict.fromkeys(WALLS, "tracing is refused"),
    ),
    Job(
        name="a sandbox in the sandbox: unshare, bwrap, rootless containers",
        needs="unshare --version",
        script="unshare -Ur echo inside",
        prints="inside\n",
        cannot=dict.fromkeys(WALLS, "no further namespaces"),
    ),
)
