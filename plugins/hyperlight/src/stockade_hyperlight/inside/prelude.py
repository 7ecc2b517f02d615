# Runs in the guest, once, before the snapshot that every execution starts from: gives code a
# program's standard streams, environment and exit, over the host functions of child.py.
# The guest's Python is 3.14 with a small part of the standard library.
import sys


def _stockade_setup(call_tool, http_get, http_post):
    import binascii
    import builtins
    import io
    import os
    import time

    PIECE = 9000  # what goes to the host at once must fit 16 KiB with its quoting

    class Out(io.RawIOBase):
        def __init__(self, number):
            self._number = number

        def fileno(self):
            return self._number

        def writable(self):
            return True

        def write(self, data):
            piece = bytes(data[:PIECE])
            text = binascii.b2a_base64(piece, newline=False).decode()
            call_tool("_stockade_write", stream=self._number, data=text)
            return len(piece)

    class In(io.RawIOBase):
        def fileno(self):
            return 0

        def readable(self):
            return True

        def readinto(self, buffer):
            data = binascii.a2b_base64(call_tool("_stockade_read", size=len(buffer)))
            buffer[: len(data)] = data
            return len(data)

    class File(io.FileIO):
        """Writes in pieces: one that is too long for the host would break the guest."""

        def write(self, data):
            return super().write(memoryview(data).cast("B")[:PIECE])

    def where(path):
        path = os.fspath(path)
        if isinstance(path, bytes):
            path = path.decode()
        path = path.removeprefix("/workspace/")
        top, rest = "output", path
        if path.startswith("/tmp/"):
            rest = path[1:]
        elif path.startswith("/"):
            top, _, rest = path[1:].partition("/")
            if top not in ("input", "output") or not rest:
                return path
        # The folders are flat: a path is one name there, quoted as the host quotes it.
        parts = []
        for piece in rest.split("/"):
            if piece == ".." and parts:
                parts.pop()
            elif piece not in ("", ".", ".."):
                parts.append(piece)
        name = ""
        for at, byte in enumerate("/".join(parts).encode("utf-8", "surrogateescape")):
            char = chr(byte)
            plain = byte < 128 and (char.isalnum() or char in "-_" or (char == "." and at))
            name += char if plain else f"%{byte:02X}"
        return f"/{top}/{name}"

    def open(
        file,
        mode="r",
        buffering=-1,
        encoding=None,
        errors=None,
        newline=None,
        closefd=True,
        opener=None,
    ):
        kind = mode.replace("b", "").replace("t", "") or "r"
        raw = File(file if isinstance(file, int) else where(file), kind, closefd, opener)
        if "b" in mode and buffering == 0:
            return raw
        size = 8192 if buffering < 2 else buffering
        if "+" in kind:
            buffer = io.BufferedRandom(raw, size)
        elif kind == "r":
            buffer = io.BufferedReader(raw, size)
        else:
            buffer = io.BufferedWriter(raw, size)
        if "b" in mode:
            return buffer
        return io.TextIOWrapper(buffer, encoding or "utf-8", errors, newline, buffering == 1)

    class Exit(BaseException):
        pass

    def leave(code):
        raise Exit(code)

    def flush():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:
                pass

    def sleep(seconds):
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        flush()
        call_tool("_stockade_sleep", seconds=float(seconds))

    def report(error):
        lines = ["Traceback (most recent call last):"]
        step = error.__traceback__.tb_next if error.__traceback__ else None
        count = 0
        while step is not None and count < 50:
            code = step.tb_frame.f_code
            lines.append(f'  File "{code.co_filename}", line {step.tb_lineno}, in {code.co_name}')
            step = step.tb_next
            count += 1
        if isinstance(error, SyntaxError) and error.lineno:
            lines.append(f'  File "{error.filename}", line {error.lineno}')
        name = type(error).__qualname__
        if type(error).__module__ not in ("builtins", "__main__"):
            name = f"{type(error).__module__}.{name}"
        text = str(error)
        lines.append(f"{name}: {text}" if text else name)
        print("\n".join(lines), file=sys.stderr)

    def exit_code(value):
        if value is None:
            return 0
        if isinstance(value, int):
            return value & 0xFF
        print(value, file=sys.stderr)
        return 1

    def streams():
        sys.stdin = io.TextIOWrapper(io.BufferedReader(In(), 65536), "utf-8", "surrogateescape")
        # Line by line, as on a terminal: output is seen as it comes, and kept at a deadline.
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(Out(1), PIECE), "utf-8", "surrogateescape", line_buffering=True
        )
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(Out(2), PIECE), "utf-8", "backslashreplace", line_buffering=True
        )
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr

    kept = {}

    def run(text, env, keep):
        streams()
        os.environ.clear()
        os.environ.update(env)
        sys.argv = [""]
        space = kept if keep else {}
        space.update(
            __name__="__main__",
            __builtins__=builtins,
            call_tool=call_tool,
            http_get=http_get,
            http_post=http_post,
        )
        code = 0
        try:
            text = text[1:] if text[:1] == "\ufeff" else text
            exec(compile(text, "<code>", "exec", dont_inherit=True), space)
        except (SystemExit, Exit) as error:
            code = exit_code(error.code if isinstance(error, SystemExit) else error.args[0])
            keep = False
        except KeyboardInterrupt as error:
            report(error)
            code = 130
        except BaseException as error:
            report(error)
            code = 1
        if not keep:
            space.clear()  # which closes, and so writes, what it left open
        flush()
        return code

    # The guest's clock of this kind stands still, and its sleep breaks it.
    time.monotonic = time.perf_counter = time.time
    time.sleep = sleep
    os._exit = leave
    builtins.open = io.open = open
    module = type(sys)("_stockade")
    module.run = run
    sys.modules["_stockade"] = module


_stockade_setup(call_tool, http_get, http_post)
