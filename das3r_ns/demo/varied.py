"""Clips with exact masks, each another by its seed: places, cameras, movers and faults of the film of many kinds.

What moves and what stands are made of the same parts and the same stuff: only that it moves tells one from the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from das3r_ns.demo.drawn.cameras import Filming, camera
from das3r_ns.demo.drawn.choice import PLACES
from das3r_ns.demo.drawn.film import Film
from das3r_ns.demo.drawn.frame import Lens, draw, flow_to
from das3r_ns.demo.drawn.movers import Mover, mover, standing
from das3r_ns.demo.drawn.scene import Scene
from das3r_ns.demo.drawn.surroundings import clear_the_way, foreground
from das3r_ns.demo.write import write_cameras, write_picture
from das3r_ns.errors import Das3rError
from das3r_ns.files import replace_directory, temporary_directory
from das3r_ns.workers import workers

STILL_SHARE = 0.25
"""Share of the clips in which nothing moves."""
MOST_MOVERS, MOST_STANDING = 5, 3
FOREGROUND_SHARE, LENS_SHARE, SHADOW_SHARE = 0.4, 0.25, 0.7
"""Shares of the clips with thin things near the camera, with a lens that bends lines, and with shadows of movers."""
TRIES, LEAST_SEEN = 3, 8
"""How often a mover that is hardly seen is replaced, and what that is: pixels of 48 x 27 in four frames together."""


@dataclass
class DrawnClip:
    """What a seed stands for."""

    scene: Scene
    filming: Filming
    poses: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenCV axes, metres."""
    focal_share: float
    """Focal in widths of the picture."""
    k1: float
    """Radial distortion, OpenCV's first coefficient."""
    movers: list[Mover]
    shadows: bool
    """Whether movers cast them, and are mirrored; neither is masked, as in hand-made truth."""
    film: Film

    @classmethod
    def of_seed(cls, seed: int, num_frames: int) -> DrawnClip:
        """The clip of a seed; the same walk is cut into any number of frames."""
        rng = np.random.default_rng([19, seed])
        makers, shares = zip(*PLACES.values(), strict=True)
        number = 0 if rng.random() < STILL_SHARE else int(rng.integers(1, MOST_MOVERS + 1))
        scene = makers[int(rng.choice(len(makers), p=shares))](rng)
        focal, k1 = float(rng.uniform(0.6, 1.2)), float(rng.uniform(-0.18, 0.08)) if rng.random() < LENS_SHARE else 0.0
        filming = camera(rng, scene)
        way = filming.poses(11)[:, :3, 3]
        clear_the_way(scene, way)
        if rng.random() < FOREGROUND_SHARE:
            foreground(rng, scene, filming.pose(0.5))
            clear_the_way(scene, way, 0.12)
        movers = [mover(rng, scene, filming, 0.5 / focal) for _ in range(number)]
        for _ in range(int(rng.integers(MOST_STANDING + 1))):
            scene.parts += standing(rng, scene, filming, 0.5 / focal)
        clear_the_way(scene, way, 0.1)
        scene.cast_shadows()
        film, shadows = Film.of(rng), bool(rng.random() < SHADOW_SHARE)
        if filming.kind == "wide":
            film.shutter = 0.0  # photographs, not film
        clip = cls(scene, filming, filming.poses(num_frames), focal, k1, movers, shadows, film)
        for _ in range(TRIES):
            hidden = clip.hidden()
            for which in hidden:
                movers[which] = mover(rng, scene, filming, 0.5 / focal)
            if not hidden:
                break
        return clip

    def hidden(self) -> list[int]:
        """Movers that are hardly ever seen, because something stands before them or they pass outside the picture."""
        if not self.movers:
            return []
        lens = Lens(self.focal_share * 48, 48, 27, self.k1)
        seen = np.zeros(len(self.movers) + 1, int)
        for time in (0.0, 0.35, 0.65, 1.0):
            owner = draw(self.scene, self.movers, time, self.filming.pose(time), lens, 1, False).owner
            seen += np.bincount(owner.ravel() + 1, minlength=len(seen))
        return np.flatnonzero(seen[1:] < LEAST_SEEN).tolist()

    def frame(
        self, number: int, width: int, height: int, gain: float, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
        """A picture and its mask.

        Args:
            number: Of the frame.
            width: Of the picture, pixels.
            height: Of the picture, pixels.
            gain: From :meth:`gain`.
            rng: Of the film's noise.
        """
        last = max(len(self.poses) - 1, 1)
        time, lens = number / last, Lens(self.focal_share * width, width, height, self.k1)
        seen = draw(self.scene, self.movers, time, self.poses[number], lens, shadows=self.shadows)
        flow = None
        if self.film.shutter:
            # A clip of few frames has large steps; a shutter is not open for longer because of that.
            later = time + 1 / max(last, 24)
            poses = (self.poses[number], self.filming.pose(later))
            flow = flow_to(seen, self.movers, (time, later), poses, lens)
        return self.film.expose(seen.light, gain, flow, time, rng), seen.mask

    def gain(self) -> float:
        """The exposure, by a small picture of the clip's middle."""
        lens = Lens(self.focal_share * 64, 64, 36, self.k1)
        return self.film.gain(draw(self.scene, self.movers, 0.5, self.filming.pose(0.5), lens, 1).light)

    def facts(self) -> dict[str, object]:
        """What there is to know about it, for tables by kind."""
        movers = [f"{one.kind} {one.way}" for one in self.movers]
        return {"place": self.scene.kind, "camera": self.filming.kind, "movers": movers, "k1": self.k1}


def write_clip(
    directory: Path,
    seed: int,
    num_frames: int,
    width: int,
    height: int,
    on_frame: Callable[[], None] = lambda: None,
) -> None:
    """Write the clip of a seed: frames/, masks/ (255 = movers cover half of the pixel or more), and its cameras.

    poses.txt and intrinsics.json are as those of `das3r demo`; clip.json says what was drawn, and how much the lens
    bends (k1 of OpenCV).

    Args:
        directory: Folder to write, there completely or not at all; nothing happens where it is.
        seed: Any whole number from 0 up.
        num_frames: Length of the clip.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        on_frame: Called after each finished frame, for progress bars.

    Raises:
        Das3rError: It cannot be written.
    """
    if directory.is_dir():
        for _ in range(num_frames):
            on_frame()
        return

    def one(number: int) -> None:
        image, mask = clip.frame(number, width, height, gain, np.random.default_rng([19, seed, number]))
        write_picture(temporary / f"frames/{number:05d}.png", image)
        write_picture(temporary / f"masks/{number:05d}.png", mask.astype(np.uint8) * 255)
        on_frame()

    try:
        with temporary_directory(directory) as temporary:
            (temporary / "frames").mkdir()
            (temporary / "masks").mkdir()
            clip = DrawnClip.of_seed(seed, num_frames)
            gain = clip.gain()
            with ThreadPoolExecutor(max_workers=workers()) as pool:
                list(pool.map(one, range(num_frames)))
            write_cameras(temporary, clip.poses, clip.focal_share * width, width, height)
            (temporary / "clip.json").write_text(json.dumps({"seed": seed, **clip.facts()}, indent=1) + "\n")
            replace_directory(temporary, directory)
    except OSError as error:
        raise Das3rError(f"The drawn clip cannot be written to {directory}: {error}.") from error
