"""A store that every machine reaches: files are put there, fetched, and removed. What talks to it is fsspec.

Credentials and addresses of servers come from where fsspec and its packages look for them on each machine.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from das3r_ns.errors import Das3rError

THREADS = 16
"""Small files that are read at the same time."""
MAGIC = "*?[]"
"""What fsspec takes for a pattern, in names too."""


class StorageError(Das3rError):
    """The store does not do what it is asked to; the message names it and says why."""


def is_url(text: str) -> bool:
    """Whether a text names something in a store rather than a path of this machine."""
    return "://" in text


def opened(url: str) -> tuple[Any, str]:
    """The file system of a URL or a path, and what it calls the place.

    Raises:
        StorageError: There is no such kind of store, or the package that knows it is not installed.
    """
    from fsspec.core import split_protocol, url_to_fs
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.registry import known_implementations

    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        protocol = split_protocol(url)[0] or ""
        package = known_implementations.get(protocol, {}).get("class", protocol).partition(".")[0]
        package = f"'fsspec[{protocol}]'" if package == "fsspec" else package
        raise StorageError(f"{url} needs a package that is not installed ({error}): `pip install {package}`.") from None
    except Exception as error:  # every package has its own
        raise StorageError(
            f"{url} is no place that fsspec knows: {_first(error)} Take one like s3://BUCKET/FOLDER or file:///FOLDER."
        ) from None
    # Other stores have no folders that must be there before their files.
    return (LocalFileSystem(auto_mkdir=True) if isinstance(system, LocalFileSystem) else system), path.rstrip("/")


@dataclass(frozen=True)
class Storage:
    """A folder of a store; names are relative to it, with / between.

    Every method raises a :class:`StorageError` where the store refuses or does not answer.
    """

    url: str

    def check(self) -> None:
        """Make sure that files can be written here, read, and removed."""
        if not is_url(self.url):
            raise StorageError(
                f"{self.url} is no URL of a folder (--storage). Take one like s3://BUCKET/FOLDER or file:///FOLDER."
            )
        if found := [sign for sign in MAGIC if sign in self.url]:
            raise StorageError(f"{self.url} has the sign {found[0]} in it (--storage): name one folder, no pattern.")
        name, content = f".das3r-{uuid.uuid4().hex}", b"das3r"
        try:
            self.write(name, content)
            read = self.read([name]).get(name)
            self.remove(name)
        except StorageError as error:
            raise StorageError(
                f"{error} Name a folder that can be written (--storage), and set what its package asks for on every "
                "machine, such as credentials."
            ) from None
        if read != content:
            raise StorageError(f"{self.url} does not give back what is written there (--storage). Name another place.")

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """The contents of small files; those that are not there are left out."""

        def read(name: str) -> tuple[str, bytes | None]:
            with suppress(FileNotFoundError):
                return name, system.cat_file(f"{root}/{name}")
            return name, None

        with self._asked() as (system, root), ThreadPoolExecutor(THREADS) as pool:
            return {name: content for name, content in pool.map(read, names) if content is not None}

    def write(self, name: str, content: bytes) -> None:
        """Write one small file."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, *PurePosixPath(name).parts)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            self.put([file], Path(folder), "")

    def put(self, files: Iterable[Path], base: Path, name: str) -> None:
        """Put files into a folder.

        Args:
            files: Of this machine.
            base: What their names there are relative to.
            name: Of the folder; nothing for that of the store.
        """
        files = list(files)
        with self._asked() as (system, root):
            targets = [str(PurePosixPath(root, name, file.relative_to(base).as_posix())) for file in files]
            if files:
                system.put([str(file) for file in files], targets)

    def get(self, name: str, folder: Path) -> None:
        """Fetch all that lies in a folder, if there is one, into one of this machine."""
        with self._asked() as (system, root), suppress(FileNotFoundError):
            _fetch(system, f"{root}/{name}", f"{root}/{name}", folder)

    def remove(self, name: str) -> None:
        """Remove a file or a folder, if it is there."""
        with self._asked() as (system, root), suppress(FileNotFoundError):
            system.rm(f"{root}/{name}", recursive=True)

    @contextmanager
    def _asked(self) -> Iterator[tuple[Any, str]]:
        with asked(self.url) as place:
            yield place


@contextmanager
def asked(url: str) -> Iterator[tuple[Any, str]]:
    """What :func:`opened` gives; whatever its package raises becomes a :class:`StorageError`."""
    system, root = opened(url)
    try:
        system.invalidate_cache()  # other machines write there too
        yield system, root
    except StorageError:
        raise
    except Exception as error:  # every package has its own
        raise StorageError(f"{url} cannot be used: {_first(error)}") from error


def fetch_video(url: str, folder: Path, without: str) -> None:
    """Fetch a video, which keeps its name.

    Args:
        url: URL or path of a file or a folder.
        folder: Of this machine, for the file or folder.
        without: How names of folders end that are left where they are.
    """
    with asked(url) as (system, root):
        if not _fetch(system, root, str(PurePosixPath(root).parent), folder, without):
            raise FileNotFoundError("nothing is there")


def matching(url: str) -> list[str]:
    """What a URL names that is there; of a pattern all that matches, in order.

    Raises:
        StorageError: Nothing is, or the store does not answer.
    """
    with asked(url) as (system, root):
        if not any(sign in root for sign in MAGIC):
            found = [url] if system.exists(root) else []
        else:
            found = sorted(system.unstrip_protocol(path) for path in system.glob(root))
    if not found:
        raise StorageError(f"There is nothing at {url}. Name a video file, a folder of frames, or a pattern of such.")
    return found


def _fetch(system: Any, path: str, base: str, folder: Path, without: str = "//") -> int:
    names = {file: PurePosixPath(file).relative_to(base) for file in system.find(path)}
    names = {file: name for file, name in names.items() if not any(part.endswith(without) for part in name.parts)}
    if names:
        system.get(list(names), [str(folder / name) for name in names.values()])
    return len(names)


def _first(error: Exception) -> str:
    """The first line of what an error says, a sentence."""
    line = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    return f"{line.rstrip('.')}."
