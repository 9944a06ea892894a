"""GNM Head from where Google publishes it: one file of one known content, by https, or nothing at all.

This is the only part of the program that uses the network, and only when it is asked to.
"""

import contextlib
import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ..._errors import InputError
from ...files import temporary_folder

_CHUNK = 1 << 18
_SECONDS_SILENT = 30.0


class Published(NamedTuple):
    """A file that is published under a fixed address with a fixed content."""

    url: str
    sha256: str
    largest_bytes: int
    """More than this is not even received."""
    loopback: bool = False
    """Whether the address may be this machine's own, by plain http: for tests."""


GNM = Published(
    "https://huggingface.co/google/gnm-v3/resolve/main/v3_0/gnm_head.npz",
    "61d78bbfb4ad8e0b38495804a4caef3214d3df00f8c3f68761e63b41ce3747eb",
    64 << 20,
)
"""GNM Head 3.0, 53 MB, Apache-2.0."""

Progress = Callable[[int, int | None, float], None]
"""Hears bytes received, bytes in all where that is known, and seconds since the start."""


def fetch(source: Published, folder: Path, *, progress: Progress = lambda *_: None) -> Path:
    """Receive the file into `folder` under its own name and check it; raises `InputError` where it can't be had."""
    name = urlsplit(source.url).path.rsplit("/", 1)[-1]
    where, target = f"{name} from {urlsplit(source.url).hostname}", folder / name
    try:
        found = _receive(source, where, target, progress)
    except InputError:
        target.unlink(missing_ok=True)
        raise
    if found != source.sha256:
        target.unlink(missing_ok=True)
        raise InputError(
            f"{where} is not the file it should be (SHA-256 {found[:12]}…, expected {source.sha256[:12]}…): it was "
            "damaged on the way or has changed there; try again, or download it by hand and give it to "
            "'diverse3d head import'."
        )
    return target


@contextlib.contextmanager
def fetch_gnm(*, progress: Progress = lambda *_: None, source: Published = GNM) -> Iterator[Path]:
    """A temporary folder that holds the checked `gnm_head.npz`."""
    with temporary_folder() as folder:
        fetch(source, folder, progress=progress)
        yield folder


class _OnlySafe(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only (in tests also to this machine)."""

    def __init__(self, loopback: bool) -> None:
        self.loopback = loopback

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not _is_safe(newurl, self.loopback):
            host = urlsplit(req.full_url).hostname
            raise InputError(f"{host} redirects to an address without https; it wasn't followed.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_safe(url: str, loopback: bool) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (loopback and parts.scheme == "http" and parts.hostname == "127.0.0.1")


def _receive(source: Published, where: str, target: Path, progress: Progress) -> str:
    """Write what the address sends to `target` and return its SHA-256."""
    if not _is_safe(source.url, source.loopback):
        raise InputError(f"{where} is not at an https address.")
    handlers: list[urllib.request.BaseHandler] = [_OnlySafe(source.loopback)]
    if source.loopback:
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(source.url, headers={"User-Agent": "diverse3d", "Accept-Encoding": "identity"})
    digest, done, start = hashlib.sha256(), 0, time.monotonic()
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_SECONDS_SILENT) as answer:
            length = answer.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() and len(length) < 16 else None
            if total is not None and total > source.largest_bytes:
                raise InputError(f"{where} is {total >> 20} MiB, far more than the file it should be; not received.")
            with _opened(target) as file:
                while piece := answer.read(_CHUNK):
                    done += len(piece)
                    if done > source.largest_bytes:
                        raise InputError(f"{where} is far larger than the file it should be; it wasn't received.")
                    digest.update(piece)
                    _write(file, piece, target)
                    progress(done, total, time.monotonic() - start)
    except InputError:
        raise
    except urllib.error.HTTPError as error:
        said = f"the server answers {error.code} ({error.reason})"
        raise InputError(f"{where} can't be had: {said}; try again later.") from None
    except (TimeoutError, ConnectionError, urllib.error.URLError, http.client.HTTPException, ssl.SSLError) as error:
        raise InputError(_why(where, error, done)) from None
    if total is not None and done < total:
        raise InputError(f"{where} broke off after {done} of {total} bytes; try again.")
    return digest.hexdigest()


def _why(where: str, error: Exception, done: int) -> str:
    reason = getattr(error, "reason", error)
    if done or isinstance(error, http.client.IncompleteRead):
        return f"{where} broke off after {done} bytes; try again."
    if isinstance(reason, TimeoutError):
        return f"{where} can't be had: nothing came for {_SECONDS_SILENT:.0f} s; check the network and try again."
    said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    advice = "check the network, or download it elsewhere and give it to 'diverse3d head import'"
    return f"{where} can't be had ({said}); {advice}."


def _opened(target: Path):  # type: ignore[no-untyped-def]
    try:
        return target.open("wb")
    except OSError as error:
        raise InputError(f"{target} can't be written ({error.strerror or error}).") from None


def _write(file, piece: bytes, target: Path) -> None:  # type: ignore[no-untyped-def]
    try:
        file.write(piece)
    except OSError as error:
        raise InputError(f"{target.parent} can't hold the file ({error.strerror or error}); make room there.") from None
