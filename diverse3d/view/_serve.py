"""The server: loopback unless told, one port, and nobody but the page that it served itself."""

import contextlib
import errno
import io
import ipaddress
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from .._errors import InputError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_viser() -> None:
    """Raise `InputError` where viser is not installed."""
    if find_spec("viser") is None:
        raise InputError("'view' needs viser, which is not installed: pip install 'diverse3d[view]'.")


def choose_port(host: str, port: int | None) -> int:
    """A port that is free: the one asked for, or any. Raises `InputError` where it, or the host, can't be had."""
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"The port {port} is out of range; give one from 1 to 65535, or none for a free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server itself does: what was served there a moment ago is no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise InputError(f"The port {port} is in use; name another, or leave --port out for a free one.") from None
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{host}, port {port or 'any'}, can't be listened at ({reason}); name another.") from None


def is_welcome(host: str, origin: str | None, asked: str) -> bool:
    """Whether a request that names `host` and comes from a page of `origin` may be answered by a server at `asked`.

    A page elsewhere whose name was made to lead here names another host, and one that opens a socket to here another
    origin.
    """
    try:
        name = urlsplit(f"//{host}").hostname
        if origin is not None and urlsplit(origin).netloc != host:
            return False
    except ValueError:
        return False
    if name is None:
        return False
    if name in LOOPBACK or name == asked.lower():
        return True
    if asked in LOOPBACK:
        return False
    # Listening to all addresses: any of them by number, or the machine by its name.
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return name == socket.gethostname().lower()


@contextlib.contextmanager
def serve(host: str, port: int | None, label: str) -> Iterator[Any]:
    """A viser server, which is gone afterwards; raises `InputError` where it can't listen."""
    check_viser()
    port = choose_port(host, port)
    import viser
    import websockets.asyncio.server as sockets

    plain = sockets.serve

    def guarded(handler: Any, *arguments: Any, process_request: Any, **options: Any) -> Any:
        def request(connection: Any, asked: Any) -> Any:
            if not is_welcome(asked.headers.get("Host", ""), asked.headers.get("Origin"), host):
                return connection.respond(403, "This server answers the pages that it serves itself.\n")
            return process_request(connection, asked)

        return plain(handler, *arguments, process_request=request, **options)

    # viser takes no check of its own; it asks for this once, as it starts.
    sockets.serve = guarded  # type: ignore[assignment]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a table, and this says where it is in a line
            server = viser.ViserServer(host=host, port=port, label=label, verbose=False)
    finally:
        sockets.serve = plain
    try:
        if server.get_port() != port:
            raise InputError(f"The port {port} was taken just now; name another, or leave --port out for a free one.")
        yield server
    finally:
        with contextlib.redirect_stdout(io.StringIO()):  # it says so itself
            server.stop()
