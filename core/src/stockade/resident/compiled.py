"""Starts a lane's zygote: its text is compiled by a child, and run here.

A compiler leaves as much heap behind as the zygote needs, and each fork copies it, or gets it
copied. Runs inside the sandbox, with the texts in ZYGOTE and
SERVED; never imported.
"""

import marshal
import os
import sys


def compiled(text):
    ours, theirs = os.pipe()
    try:
        pid = os.fork()
    except OSError:  # the process limit: the memory is not worth waiting for
        os.close(ours)
        os.close(theirs)
        return compile(text, "<zygote>", "exec")
    if pid == 0:
        os.close(ours)
        with open(theirs, "wb") as pipe:
            pipe.write(marshal.dumps(compile(text, "<zygote>", "exec")))
        os._exit(0)
    os.close(theirs)
    import linecache, signal  # what takes longest of the zygote's imports, meanwhile

    with open(ours, "rb") as pipe:
        code = pipe.read()
    os.waitpid(pid, 0)
    return marshal.loads(code)


# With a mark (see supervisor.sh) the lane stays the shell's, and what is forked is the smaller.
exec(compiled(ZYGOTE if sys.argv[4] else ZYGOTE + SERVED))
del ZYGOTE, SERVED
main()
