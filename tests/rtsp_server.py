"""A small RTSP/1.0 camera for tests: one H.264 file, at its own pace, over TCP-interleaved RTP.

Speaks OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER and TEARDOWN to any number of clients (RFC 2326, 6184), asks for a
password when it has one (Basic or Digest), and misbehaves on demand: silent, stalled, dying. Standard library and PyAV.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av

MTU = 1400
CLOCK_HZ = 90_000


@dataclass(frozen=True)
class Behaviour:
    """What the camera does besides its duty."""

    password: str | None = None
    """Of the user ``ana``."""
    auth: Literal["Basic", "Digest"] = "Digest"
    path: str = "/cam"
    in_band: bool = False
    """Sends the parameter sets before each key frame instead of in the SDP, and begins between two key frames."""
    silent: bool = False
    """Takes the connection and never says a word."""
    silent_after_describe: bool = False
    stall_after: int | None = None
    """Sends so many frames, then nothing, and leaves the connection open."""
    die_after: int | None = None
    """Sends so many frames, then cuts the connection."""


@dataclass(frozen=True)
class Film:
    """Access units of an MP4 file: ``units`` are (seconds, NAL units)."""

    parameter_sets: list[bytes]
    units: list[tuple[float, list[bytes]]]

    @classmethod
    def of(cls, path: Path) -> Film:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            config = bytes(stream.codec_context.extradata)
            units = [
                (float(packet.pts * packet.time_base), list(_length_prefixed(bytes(packet))))
                for packet in container.demux(stream)
                if packet.size
            ]
        return cls(_parameter_sets(config), units)


class RtspServer:
    """Listens on loopback from birth; ``close`` cuts everything, as a camera that lost its power."""

    def __init__(self, film: Path, behaviour: Behaviour | None = None, *, port: int = 0) -> None:
        self._film = Film.of(film)
        self._behaviour = behaviour or Behaviour()
        self._closed = threading.Event()
        self._clients: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"rtsp://127.0.0.1:{self.port}{self._behaviour.path}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def with_user(self, user: str, password: str) -> str:
        return self.url.replace("rtsp://", f"rtsp://{user}:{password}@")

    def close(self) -> None:
        self._closed.set()
        for sock in (self._socket, *self._clients):
            with suppress(OSError):  # it was never connected, or the client was faster
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients.append(client)
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            Conversation(client, self._film, self._behaviour, self._closed).run()
        except OSError:
            pass  # either side hung up
        finally:
            client.close()


class Conversation:
    """One client, from its first request to its last frame."""

    def __init__(self, client: socket.socket, film: Film, behaviour: Behaviour, closed: threading.Event) -> None:
        self._client = client
        self._film = film
        self._behaviour = behaviour
        self._closed = closed
        self._buffer = b""
        self._sending = threading.Lock()

    def run(self) -> None:
        if self._behaviour.silent:
            self._closed.wait()
            return
        while (request := self._request()) is not None:
            method, url, headers = request
            sequence = headers.get("cseq", "0")
            if not self._allowed(method, headers):
                self._answer(sequence, "401 Unauthorized", {"WWW-Authenticate": self._challenge()})
            elif method == "DESCRIBE" and not re.search(rf"{re.escape(self._behaviour.path)}/?$", url):
                self._answer(sequence, "404 Not Found", {})
            else:
                self._obey(method, url, headers, sequence)
                if method == "TEARDOWN":
                    return
                if method == "DESCRIBE" and self._behaviour.silent_after_describe:
                    self._closed.wait()
                    return

    def _obey(self, method: str, url: str, headers: dict[str, str], sequence: str) -> None:
        if method == "DESCRIBE":
            self._answer(
                sequence, "200 OK", {"Content-Type": "application/sdp", "Content-Base": url + "/"}, self._sdp()
            )
        elif method == "SETUP":
            transport = headers.get("transport", "")
            if "TCP" not in transport:
                self._answer(sequence, "461 Unsupported Transport", {})
                return
            self._answer(
                sequence, "200 OK", {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1", "Session": "1;timeout=60"}
            )
        elif method == "PLAY":
            self._answer(sequence, "200 OK", {"Session": "1", "Range": "npt=0-"})
            threading.Thread(target=self._play, daemon=True).start()
        else:
            self._answer(sequence, "200 OK", {"Public": "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"})

    def _play(self) -> None:
        sequence = 0
        try:
            for number, (time_s, nals) in enumerate(self._film.units):
                if self._behaviour.in_band:
                    if number == 0:
                        continue
                    nals = [*self._film.parameter_sets, *nals] if any(nal[0] & 0x1F == 5 for nal in nals) else nals
                if number == self._behaviour.stall_after:
                    return
                if number == self._behaviour.die_after:
                    self._client.shutdown(socket.SHUT_RDWR)
                    return
                previous_s = self._film.units[number - 1][0] if number else time_s
                if self._closed.wait(max(0.0, time_s - previous_s)):
                    return
                for packet, last in _packets(nals):
                    header = struct.pack(
                        ">BBHII", 0x80, 96 | (last << 7), sequence & 0xFFFF, int(time_s * CLOCK_HZ) & 0xFFFFFFFF, 1
                    )
                    self._send(struct.pack(">cBH", b"$", 0, len(header) + len(packet)) + header + packet)
                    sequence += 1
            self._client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client left in the middle

    def _request(self) -> tuple[str, str, dict[str, str]] | None:
        """The next request; RTCP that the client interleaves is skipped."""
        while True:
            while self._buffer[:1] == b"$" and len(self._buffer) >= 4:
                size = 4 + int.from_bytes(self._buffer[2:4], "big")
                if len(self._buffer) < size:
                    break
                self._buffer = self._buffer[size:]
            if self._buffer[:1] != b"$" and b"\r\n\r\n" in self._buffer:
                head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")
                method, url, _version = first.split(" ")
                pairs = (line.partition(":") for line in lines)
                return method, url, {key.strip().lower(): value.strip() for key, _, value in pairs}
            data = self._client.recv(65536)
            if not data:
                return None
            self._buffer += data

    def _answer(self, sequence: str, status: str, headers: dict[str, str], body: str = "") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {sequence}", *(f"{key}: {value}" for key, value in headers.items())]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self._send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._client.sendall(data)

    def _sdp(self) -> str:
        sets = ",".join(base64.b64encode(nal).decode() for nal in self._film.parameter_sets)
        known = "" if self._behaviour.in_band else f";sprop-parameter-sets={sets}"
        return "\r\n".join(
            (
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=test camera\r\nt=0 0\r\na=control:*",
                "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000",
                f"a=fmtp:96 packetization-mode=1{known}\r\na=control:track1\r\n",
            )
        )

    def _challenge(self) -> str:
        return (
            'Digest realm="camera", nonce="0123456789abcdef"'
            if self._behaviour.auth == "Digest"
            else 'Basic realm="camera"'
        )

    def _allowed(self, method: str, headers: dict[str, str]) -> bool:
        password = self._behaviour.password
        if password is None or method == "OPTIONS":
            return True
        given = headers.get("authorization", "")
        if self._behaviour.auth == "Basic":
            return given == "Basic " + base64.b64encode(f"ana:{password}".encode()).decode()
        fields = dict(re.findall(r'(\w+)="([^"]*)"', given))
        ha1 = hashlib.md5(f"ana:camera:{password}".encode()).hexdigest()
        ha2 = hashlib.md5(f"{method}:{fields.get('uri', '')}".encode()).hexdigest()
        return fields.get("response") == hashlib.md5(f"{ha1}:0123456789abcdef:{ha2}".encode()).hexdigest()


def _length_prefixed(unit: bytes) -> list[bytes]:
    """NAL units of an MP4 sample."""
    nals, at = [], 0
    while at + 4 <= len(unit):
        size = int.from_bytes(unit[at : at + 4], "big")
        nals.append(unit[at + 4 : at + 4 + size])
        at += 4 + size
    return nals


def _parameter_sets(config: bytes) -> list[bytes]:
    """SPS and PPS of an AVCDecoderConfigurationRecord."""
    sets, at = [], 6
    for count in (config[5] & 0x1F, None):
        if count is None:
            count, at = config[at], at + 1
        for _ in range(count):
            size = int.from_bytes(config[at : at + 2], "big")
            sets.append(config[at + 2 : at + 2 + size])
            at += 2 + size
    return sets


def _packets(nals: list[bytes]) -> list[tuple[bytes, bool]]:
    """RTP payloads of one access unit, and whether each is its last: single NAL units, or FU-A where too long."""
    payloads: list[bytes] = []
    for nal in nals:
        if len(nal) <= MTU:
            payloads.append(nal)
            continue
        pieces = [nal[at : at + MTU] for at in range(1, len(nal), MTU)]
        for number, piece in enumerate(pieces):
            ends = (0x80 if number == 0 else 0) | (0x40 if number == len(pieces) - 1 else 0)
            payloads.append(bytes([(nal[0] & 0x60) | 28, ends | (nal[0] & 0x1F)]) + piece)
    return [(payload, number == len(payloads) - 1) for number, payload in enumerate(payloads)]
