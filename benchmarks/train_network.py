"""That ``das3r train-network`` learns: a tiny network with formula weights, on clips that are drawn.

``python benchmarks/train_network.py --output-dir OUT``: writes the tiny network of tests/reference/fill.py without its
mask heads, heads an eighth as wide, and trains new ones on top. Its encoder and decoders know nothing of the world, so
what it learns is how things look that move. ``--standing 3`` draws the clips as das3r train-network does, with things
of the same looks that stand: those it cannot tell apart. What a published network would reach this does not say.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
import tyro
from network import formula

from das3r_ns.demo import varied
from das3r_ns.demo.drawn import places
from das3r_ns.frontend.network.monst3r import build_network, dpt, heads
from das3r_ns.progress import Progress
from das3r_ns.training.config import TrainingConfig
from das3r_ns.training.state import write_checkpoint
from das3r_ns.training.train import train_network


def main(
    output_dir: Path,
    drawn: int = 30,
    epochs: int = 20,
    network_size: int = 128,
    learning_rate: float = 2e-3,
    features: int = 32,
    rooms: int = 2,
    standing: int = 0,
) -> None:
    """Train, and print J after every epoch.

    Args:
        output_dir: Where everything is written.
        drawn: Clips, of ten frames.
        epochs: How often they are gone through.
        network_size: Longer side of the pictures.
        learning_rate: Of AdamW.
        features: Channels of the heads; 256 in the published ones.
        rooms: Different rooms of the demo's kind, each of which takes seconds to light.
        standing: Most things in a clip that stand.
    """
    dpt.FEATURES = heads.FEATURES = features
    dpt.LAYER_DIMS = (features // 2, features, 2 * features, 4 * features)
    places.ROOMS, varied.MOST_STANDING = rooms, standing
    fill = formula()
    network = build_network({**fill.TINY, "mask_heads": False})
    shapes = ((name, value.shape) for name, value in network.state_dict().items())
    network.load_state_dict({name: torch.from_numpy(value) for name, value in fill.fill_state_dict(shapes).items()})
    start = output_dir / "tiny"
    write_checkpoint(network, start)
    config = TrainingConfig(
        output_dir / "trained",
        checkpoint=str(start),
        drawn=drawn,
        drawn_frames=10,
        epochs=epochs,
        batch_size=4,
        group_size=2,
        network_size=network_size,
        learning_rate=learning_rate,
        device="cpu",
    )
    progress = Progress()
    train_network(config, progress)
    progress.print_seconds()
    print(f"{time.process_time():.0f} CPU seconds in all")


if __name__ == "__main__":
    tyro.cli(main)
