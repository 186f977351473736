"""Postgres on the wire: just enough to know when a COMMIT has happened, and to keep that from the client.

The client's messages are followed from their beginning. The server's need not be: libpq sends its next statement when
it has read the whole answer to the last one, so the first byte after a COMMIT begins a message.
"""

from struct import unpack

from tests.chaos.proxy_wire import Cut, End, Fault, Faults, Kind, Wire

NEGOTIATIONS = (80877103, 80877104)  # SSLRequest and GSSENCRequest: answered with one byte, "N" by our servers
COMMITS = frozenset({b"COMMIT", b"COMMIT TRANSACTION", b"COMMIT WORK", b"END"})
KEPT_STATEMENT_BYTES = 4096  # of each, for `Fault.only`


class Frames:
    """The typed messages in a stream of bytes, of which only some are looked into."""

    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted  # their type bytes
        self._kept = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Type and body of each wanted message that ends in `data`."""
        passed = min(self._skip, len(data))
        self._skip -= passed
        self._kept += data[passed:]
        found = []
        while len(self._kept) >= 5:
            kind, length = bytes(self._kept[:1]), unpack(">i", self._kept[1:5])[0] + 1
            if kind not in self._wanted:
                self._skip = max(0, length - len(self._kept))
            elif len(self._kept) < length:
                break
            else:
                found.append((kind, bytes(self._kept[5:length])))
            del self._kept[:length]
        return found


class PostgresWire(Wire):
    """A connection to Postgres on which the answer to COMMIT can be lost."""

    def __init__(self, faults: Faults, client: End, upstream: tuple[str, int]) -> None:
        self._opening = bytearray()
        self._opened = False
        self._asked = Frames(b"QP")
        self._answers: Frames | None = None  # while a COMMIT is under way
        self._statements: list[bytes] = []  # of the transaction
        super().__init__(faults, client, upstream)

    def heard_client(self, data: bytes) -> None:
        """Follow the messages, and see a COMMIT."""
        if not self._opened:
            data = self._rest_of_opening(data)
        for kind, body in self._asked.feed(data):
            statement = (body if kind == b"Q" else body.partition(b"\0")[2]).partition(b"\0")[0]
            plain = statement.strip().rstrip(b";").strip().upper()
            if plain in COMMITS:
                self._answers = Frames(b"CEZ")
            elif plain.startswith(b"BEGIN"):
                self._statements = []
            else:
                self._statements.append(statement[:KEPT_STATEMENT_BYTES])

    def heard_server(self, data: bytes) -> bytes:
        """Swallow the answer to a COMMIT that has happened, if that is the fault."""
        if self._answers is None:
            return data
        for kind, body in self._answers.feed(data):
            if kind == b"C" and body == b"COMMIT\0" and self.faults.bite({Kind.DROP_COMMIT_REPLY}, self._suits):
                raise Cut
            if kind == b"Z":  # ready for the next statement
                self._answers = None
                self._statements = []
                return data
        return data

    def _suits(self, fault: Fault) -> bool:
        return any(fault.only.encode() in statement for statement in self._statements) or not fault.only

    def _rest_of_opening(self, data: bytes) -> bytes:
        """What follows the start-up message, which bears no type; negotiations of encryption may come before it."""
        self._opening += data
        while len(self._opening) >= 8:
            length, code = unpack(">ii", self._opening[:8])
            if len(self._opening) < length:
                break
            del self._opening[:length]
            if code not in NEGOTIATIONS:
                self._opened = True
                return bytes(self._opening)
        return b""
