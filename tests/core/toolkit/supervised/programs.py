"""Python programs whose start, output and end are the same however they are started."""

from __future__ import annotations

import glob
import os
import sys

from stockade.toolkit.supervised.warm import warm_source

__all__ = ["PYTHONS", "SAME", "SOURCE", "STATUS_ALONE", "TRACEBACKS"]

#: What a warm interpreter runs.
SOURCE = warm_source().encode()

_FOUND = {
    ".".join(path.split("/")[-3].split(".")[:2]): path
    for path in glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3"))
} or {"{}.{}".format(*sys.version_info): sys.executable}

#: Pythons from 3.6 on that are here, by version: some of each kind, or with
#: STOCKADE_PYTHONS=all every one.
PYTHONS = {
    version: _FOUND[version]
    for version in sorted(_FOUND, key=lambda version: int(version[2:]))
    if os.environ.get("STOCKADE_PYTHONS") == "all"
    or len(_FOUND) < 4
    or version in ("3.6", "3.11", "3.13")
}

#: Their output and status are what ``python -c`` gives.
SAME: dict[str, str] = {
    "arguments": "import sys; print(sys.argv, repr(sys.path[0]), sys.path[1:])",
    "main": "print(__name__, __doc__, __package__, __spec__, __loader__, type(__builtins__))\n"
    "import sys; print(sys.modules['__main__'].__dict__ is globals())",
    "names": "print(sorted(n for n in globals() if n != '__file__'))",
    "modules": "import sys; print(sorted(sys.modules))",
    "streams": "import sys, os\nfor s in (sys.stdin, sys.stdout, sys.stderr):\n"
    "    b = s.buffer\n"
    "    print(s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.newlines, s.closed)\n"
    "    print(b.name, b.mode, type(b), b.raw.name, b.raw.closefd, s.seekable(), s.isatty())\n"
    "print(sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__)",
    "reads": "import sys; print(sys.stdin.readline(), sys.stdin.buffer.read())",
    "signals": "import signal\nfor n in range(1, 32): print(n, signal.getsignal(n))\n"
    "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "exit none": "exit()",
    "exit 7": "import sys; sys.exit(7)",
    "exit 256": "exit(256)",
    "exit -1": "exit(-1)",
    "exit huge": "exit(1 << 80)",
    "exit 2**32": "exit((1 << 32) + 5)",
    "exit true": "exit(True)",
    "exit text": "print('x'); exit('why')",
    "exit object": "exit([1, 2])",
    "exit 3.0": "exit(3.0)",
    "exit at once": "import os; print('lost'); os._exit(9)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "terminated": "import os, time; os.kill(os.getpid(), 15); time.sleep(9)",
    "aborted": "import os; os.abort()",
    "pipe": "import os, signal\nsignal.signal(13, signal.SIG_DFL)\n"
    "r, w = os.pipe(); os.close(r); os.write(w, b'x')",
    "interrupted": "import os, sys, signal\nsys.stderr = open('/dev/null', 'w')\n"
    "os.kill(os.getpid(), 2)\nimport time; time.sleep(9)",
    "unbuffered end": "import sys; sys.stdout.write('no newline')",
    "handlers": "import atexit\natexit.register(print, 'first')\n"
    "@atexit.register\ndef f(): print('second')\nprint('body')",
    "handlers after exit": "import atexit\natexit.register(print, 'bye'); exit(3)",
    "handlers exit": "import atexit, sys\natexit.register(sys.exit, 5)\nprint('body')",
    "handlers import": "import atexit\n@atexit.register\ndef f():\n    import json, colorsys\n"
    "    print(json.dumps(colorsys.rgb_to_hls(1, 1, 1)))",
    "threads": "import threading, time\n"
    "def f(): time.sleep(0.2); print('thread')\n"
    "threading.Thread(target=f).start(); print('main')",
    "daemon threads": "import threading, time\n"
    "def f(): time.sleep(60); print('thread')\n"
    "threading.Thread(target=f, daemon=True).start(); print('main')",
    "thread exits": "import threading, sys\nthreading.Thread(target=sys.exit, args=(4,)).start()",
    "pools": "from concurrent.futures import ThreadPoolExecutor\n"
    "import time\nThreadPoolExecutor().submit(lambda: (time.sleep(0.1), print('done')))",
    "destructors": "import os\nclass A:\n"
    "    def __del__(self): os.write(1, b'bye ' + type(self).__name__.encode())\n"
    "a = A()\nb = A(); b.me = b\n",
    "destructors in a cycle": "import os\nclass A:\n"
    "    def __del__(self): os.write(1, TEXT)\n"
    "TEXT = b'bye'\na = A()\ndef f(): return a\nA.f = f",
    "open file": "import os\nf = open('/tmp/stockade-%d' % os.getpid(), 'w')\nf.write('kept')\n"
    "g = os.open(f.name, os.O_RDONLY); os.unlink(f.name)\n"
    "class A:\n    def __del__(self): os.write(1, os.pread(g, 9, 0))\n"
    "import atexit; atexit.register(lambda: os.write(1, b'[' + os.pread(g, 9, 0) + b']'))\n"
    "del f\na = A()",
    "compressed": "import gzip, os\nname = '/tmp/stockade-%d' % os.getpid()\npid = os.fork()\n"
    "if pid:\n    os.waitpid(pid, 0); print(gzip.open(name).read()); os.unlink(name)\n"
    "else:\n    f = gzip.open(name, 'wb'); f.write(b'kept')",
    "replaced output": "import sys, io\nsys.stdout.write('a')\n"
    "sys.stdout = io.StringIO(); print('b')",
    "closed output": "import sys; print('x'); sys.stdout.close()",
    "no output": "import sys; sys.stdout = None; print('x')",
    "output breaks": "import os, sys\nr, w = os.pipe(); os.close(r); os.dup2(w, 1)\n"
    "print('x'); sys.stderr = open('/dev/null', 'w')",
    "hook": "import sys\ndef hook(kind, error, trace): print(kind, error, trace.tb_lineno)\n"
    "sys.excepthook = hook\n"
    "\nraise ValueError(1)",
    "hook exits": "import sys\nsys.excepthook = lambda *_: sys.exit(6)\nraise ValueError(1)",
    "hook raises": "import sys\nsys.stderr = sys.stdout\ndef hook(*_): raise KeyError(1)\n"
    "sys.excepthook = hook\nraise SystemExit(3)",
    "fork": "import os\npid = os.fork()\nif pid: print(os.waitpid(pid, 0)[1])\n"
    "else: print('child'); exit(3)",
    "fork falls through": "import os, sys\npid = os.fork()\n"
    "if pid: print(os.waitpid(pid, 0)[1])\nprint('end', os.getpid() == pid)",
    "descriptors": "import os\ndef there(n): return os.path.exists('/proc/self/fd/%d' % n)\n"
    "print([n for n in range(20) if there(n) and n != 9])\nprint(os.open('/dev/null', 0))",
    "descriptors of children": "import subprocess\n"
    "look = 'for d in 3 4 5 6 7 8 9 10 11; do [ -e /proc/self/fd/$d ] && echo $d; done; :'\n"
    "print(subprocess.run(['sh', '-c', look], stdout=-1, close_fds=False).stdout)",
    "groups": "import os; print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())",
    "folder": "import os; print(os.getcwd())",
    "collections": "import gc; print(gc.isenabled(), gc.get_threshold(), gc.garbage)",
    "limits": "import sys; print(sys.getrecursionlimit(), sys.gettrace(), sys.exc_info())",
    "last": "import sys; print(hasattr(sys, 'last_type'), hasattr(sys, 'ps1'))",
    "context": "try: raise ValueError\nexcept ValueError as e: print(e.__context__)",
    "future": "print(type(print.__self__)); x: int = 3; print(__annotations__)",
    "optimized": "assert False or print('asserted') is None; print(__debug__)",
    "calls c": "try: import ctypes\nexcept ImportError: print('none')\n"
    "else: print(ctypes.CDLL(None).getpid() == __import__('os').getpid())",
    "sockets": "import socket; a, b = socket.socketpair(); a.sendall(b'x'); print(b.recv(1))",
    "decimal and time": "import decimal, time; print(decimal.Decimal(1) / 3, time.tzname)",
    "pickled": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)",
    "warnings": "import sys, warnings\nsys.stderr = sys.stdout\n"
    "warnings.warn_explicit('w', UserWarning, 'x', 1)",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0.01); print('slept')\n"
    "asyncio.new_event_loop().run_until_complete(f())",
    "subprocess": "import subprocess, sys\n"
    "print(subprocess.run([sys.executable, '-c', 'print(1)'], stdout=-1).stdout)",
}

#: Of these the interpreter says more on standard error, which is its own business.
STATUS_ALONE = ("exit huge", "handlers exit")

#: What nobody catches; what is shown is what is shown of a file.
TRACEBACKS: dict[str, str] = {
    "exception": "def f():\n    return 1 / 0\n\nf()\n",
    "chained": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e\n",
    "in context": "try:\n    {}['a']\nexcept KeyError:\n    int('c')\n",
    "syntax": "x = 1\nx = = 2\n",
    "indented": "def f():\nreturn 1\n",
    "interrupt": "raise KeyboardInterrupt\n",
    "deep": "def f(n):\n    return f(n + 1)\nimport sys\nsys.setrecursionlimit(60)\nf(0)\n",
    "own": "class E(Exception):\n    'no'\nraise E('text')\n",
    "printed": "import traceback\ndef f():\n    traceback.print_exc()\n"
    "try:\n    1 / 0\nexcept ZeroDivisionError:\n    f()\n",
    "of a library": "import json\njson.loads('{')\n",
    "in a thread": "import threading\ndef f():\n"
    "    raise ValueError(threading.main_thread().name)\n"
    "t = threading.Thread(target=f, name='t')\nt.start()\nt.join()\n",
    "in a handler": "import atexit\n@atexit.register\ndef f():\n    raise ValueError('late')\n",
}
