"""A cable between two interfaces that delays and loses frames: what `tc netem` does, on kernels that don't have it.

    relay.py FIRST SECOND

Each line on the standard input, "MILLISECONDS PERCENT", sets delay and loss for each direction from then on; the end of the
input ends the relay. It says "ready" when the cable is there.
"""

import heapq
import random
import select
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, ETH_P_ALL, OUTGOING = 263, 15, 3, 4


def end(name):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    # Checksums and segments are left to the interface; this header says what is left to do.
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.bind((name, 0))
    sock.setblocking(False)
    return sock


ends = [end(name) for name in sys.argv[1:3]]
chance = random.Random(7)
delay, loss, number, under_way = 0.0, 0.0, 0, []
print("ready", flush=True)
while True:
    wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
    for readable in select.select([*ends, sys.stdin], [], [], wait)[0]:
        if readable is sys.stdin:
            line = sys.stdin.readline()
            if not line:
                sys.exit()
            delay, loss = (float(text) for text in line.split())
            continue
        try:
            frame, origin = readable.recvfrom(1 << 17)
        except (BlockingIOError, OSError):
            continue
        if origin[2] != OUTGOING and chance.uniform(0, 100) >= loss:
            number += 1  # frames of the same time keep their order
            other = ends[1] if readable is ends[0] else ends[0]
            heapq.heappush(under_way, (time.monotonic() + delay / 1000, number, other, frame))
    while under_way and under_way[0][0] <= time.monotonic():
        *_, other, frame = heapq.heappop(under_way)
        try:
            other.send(frame)
        except OSError:
            pass  # the interface is down: lost, as on any cable
