"""``das3r weights``: the network's published weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from das3r_ns.errors import Das3rError

if TYPE_CHECKING:
    from das3r_ns.progress import Progress


@dataclass
class WeightsCommand:
    """Show which network weights are at hand, download them, or check them.

    Without options: what is published, what of it is in the hub cache, and under which licence. das3r works without any
    of them. They are for non-commercial use only.
    """

    download: Literal["das3r", "monst3r", "dust3r"] | None = None
    """Fetch a checkpoint into the hub cache, after showing its licence. Run it again to go on after an interruption."""
    verify: str | None = None
    """Check a checkpoint: a name as above, a .pth file, or a folder with config.json and model.safetensors."""

    def run(self) -> None:
        """Do what was asked for."""
        from das3r_ns.progress import Progress

        progress = Progress()
        if self.download is not None:
            self._download(self.download, progress)
        if self.verify is not None:
            self._verify(self.verify, progress)
        if self.download is None and self.verify is None:
            _show()

    def _download(self, name: str, progress: Progress) -> None:
        from das3r_ns.frontend.network.monst3r import hub

        published = hub.PUBLISHED[name]
        folder = hub.cached_folder(published)
        if folder is None:
            folder = hub.download(published, progress)
        else:
            progress.say(published.licence)
            progress.say(f"{published.repository} is at hand already.")
        _check(folder, progress)

    def _verify(self, wanted: str, progress: Progress) -> None:
        from das3r_ns.frontend.network.monst3r import hub

        path = hub.cached_folder(hub.PUBLISHED[wanted]) if wanted in hub.PUBLISHED else Path(wanted).expanduser()
        if path is None:
            raise Das3rError(
                f"{wanted} is not in {hub.cache_directory()}: there is nothing to check. Run `das3r weights --download "
                f"{wanted}` first."
            )
        _check(path, progress)


def _check(path: Path, progress: Progress) -> None:
    from das3r_ns.frontend.network.monst3r.verification import verify_checkpoint

    with progress.stage("Checking the weights"):
        lines: list[str] = []
        verify_checkpoint(path, lines.append)
    for line in lines:
        progress.say(line)


def _show() -> None:
    from das3r_ns.frontend.network.monst3r import hub

    print(f"Hub cache: {hub.cache_directory()}\n")
    for published in hub.PUBLISHED.values():
        folder = hub.cached_folder(published)
        print(f"{published.name:8} {published.repository}")
        print(f"         predicts what moves: {'yes' if published.masks else 'no'}")
        print(f"         {f'at hand in {folder}' if folder else 'not at hand'}")
        print(f"         {published.licence}\n")
    print("Get one with `das3r weights --download NAME`, check one with `das3r weights --verify NAME`.")
