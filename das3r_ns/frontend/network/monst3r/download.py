"""One large file over HTTP, going on where an earlier attempt broke off, and checked against its checksum."""

from __future__ import annotations

import hashlib
import http.client
import math
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from das3r_ns.errors import Das3rError

CHUNK = 1 << 20
"""Bytes read at once, and one step of the progress."""
ATTEMPTS = 4
"""How often a broken connection is taken up again before the user is asked to."""
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""


def num_chunks(size: int) -> int:
    """Steps of progress that a file of so many bytes takes."""
    return math.ceil(size / CHUNK)


def download_file(url: str, target: Path, size: int, sha256: str, advance: Callable[[], None]) -> None:
    """Download a file, keeping what has arrived in ``target`` + ``.incomplete`` until it is whole.

    Args:
        url: Where it is.
        target: Where it shall be; its folder exists.
        size: Its size in bytes.
        sha256: Its checksum in hexadecimal digits.
        advance: Called once for each :data:`CHUNK`, those that were there already included.

    Raises:
        Das3rError: Another process is downloading it, or what arrived is not the file.
        OSError: The connection broke, or the disk cannot be written.
    """
    part = target.with_name(target.name + ".incomplete")
    try:
        with FileLock(f"{part}.lock", timeout=0):
            steps = _Steps(advance)
            for attempt in range(ATTEMPTS):
                try:
                    _fetch(url, part, size, steps)
                    break
                except urllib.error.HTTPError:
                    raise
                except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError):
                    if attempt + 1 == ATTEMPTS:
                        raise
            if checksum(part) != sha256:
                part.unlink()
                raise Das3rError(f"What arrived from {url} is not the file it should be. It was deleted; try again.")
            part.replace(target)
    except Timeout as error:
        raise Das3rError(f"Another process is downloading {target} already. Wait for it, or end it.") from error


def checksum(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class _Steps:
    """Turns the number of bytes at hand into steps of progress, which never go back."""

    def __init__(self, advance: Callable[[], None]) -> None:
        self.advance = advance
        self.done = 0

    def reach(self, size: int) -> None:
        while self.done < num_chunks(size):
            self.advance()
            self.done += 1


def _fetch(url: str, part: Path, size: int, steps: _Steps) -> None:
    """Append what is missing of a file."""
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    steps.reach(have)
    if have == size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:  # the whole file all the same
            have = 0
        with part.open("ab" if have else "wb") as file:
            while have < size and (chunk := response.read(min(CHUNK, size - have))):
                file.write(chunk)
                have += len(chunk)
                steps.reach(have)
    if have < size:
        raise ConnectionError(f"the connection ended after {have} of {size} bytes")
