"""Inside a sandbox without a network: carries connections to a loopback port to the host.

Standard input and output are the only way out; what goes where is decided at the
other end (stockade.toolkit.egress). Frames: connection (4 bytes), kind (1), length (4), data.
Kinds: o opened, d data, w so many bytes were taken, c closed.
"""

import os
import select
import socket
import struct
import sys

HEAD = struct.Struct(">IcI")
WINDOW = 256 * 1024
PIECE = 32 * 1024


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.out = b""  # from the host, for the program
        self.credit = WINDOW  # what the host still takes
        self.ending = False


def put(number, kind, data=b""):
    left = HEAD.pack(number, kind, len(data)) + data
    while left:
        left = left[os.write(1, left) :]


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    os.write(1, b"%d\n" % listener.getsockname()[1])
    connections, numbers, buffer, last = {}, {}, b"", 0
    spare = os.open(os.devnull, os.O_RDONLY)
    while True:
        reading = [0, listener] + [c.sock for c in connections.values() if c.credit > 0]
        writing = [c.sock for c in connections.values() if c.out]
        ready, free, _ = select.select(reading, writing, [])
        for sock in ready:
            if sock == 0:
                data = os.read(0, 1 << 18)
                if not data:
                    return
                buffer = take(buffer + data, connections)
            elif sock is listener:
                try:
                    accepted, _ = listener.accept()
                except OSError:  # no descriptor is left: this one is refused, the others go on
                    os.close(spare)
                    try:
                        listener.accept()[0].close()
                    except OSError:
                        pass
                    spare = os.open(os.devnull, os.O_RDONLY)
                    continue
                last += 1
                accepted.setblocking(False)
                connections[last] = Connection(accepted)
                numbers[accepted] = last
                put(last, b"o")
            elif sock in numbers and numbers[sock] in connections:
                number = numbers[sock]
                try:
                    data = sock.recv(min(PIECE, connections[number].credit))
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                connections[number].credit -= len(data)
                put(number, b"d" if data else b"c", data)
                if not data:
                    connections[number].credit = 0
        for sock in free:
            number = numbers[sock]
            connection = connections.get(number)
            if connection is not None and connection.out:
                try:
                    sent = sock.send(connection.out)
                except OSError:
                    connection.out, connection.ending = b"", True
                    continue
                connection.out = connection.out[sent:]
                put(number, b"w", struct.pack(">I", sent))
        for number, connection in list(connections.items()):
            if connection.ending and not connection.out:
                put(number, b"c")
                numbers.pop(connection.sock)
                connection.sock.close()
                del connections[number]


def take(buffer, connections):
    while len(buffer) >= HEAD.size:
        number, kind, length = HEAD.unpack_from(buffer)
        if len(buffer) < HEAD.size + length:
            break
        data = buffer[HEAD.size : HEAD.size + length]
        buffer = buffer[HEAD.size + length :]
        connection = connections.get(number)
        if connection is None:
            continue
        if kind == b"d":
            connection.out += data
        elif kind == b"w":
            connection.credit += struct.unpack(">I", data)[0]
        elif kind == b"c":
            connection.ending = True
    return buffer


main()
