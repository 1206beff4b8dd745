"""What a client has not taken yet of what was written to it."""

from __future__ import annotations

import asyncio
import struct
import sys


def untaken(transport: asyncio.Transport) -> int:
    """Bytes that wait in the transport, and with them those in the kernel that the client has not acknowledged (Linux alone tells); 0 where none
    wait in the transport. It is smaller later on wherever the client has read.

    The transport alone tells late: the kernel takes megabytes from it at once, and nothing more until the client has nearly all of them.
    """
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket") if waiting and sys.platform == "linux" else None
    if sock is None:
        return waiting
    import fcntl  # these two are not everywhere
    import termios

    try:
        # SIOCOUTQ has TIOCOUTQ's number (tcp(7), unix(7)).
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):  # it is closed by now
        return waiting
    return waiting + int(struct.unpack("i", answer)[0])
