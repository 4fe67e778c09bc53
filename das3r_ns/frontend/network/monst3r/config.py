"""Sizes of a network, as its checkpoint states them. No heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from das3r_ns.errors import Das3rError

PATCH = 16
"""Side in pixels of the square that becomes one token."""

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""Files of a hub folder."""

_EXPECTED: dict[str, tuple[Any, ...]] = {
    "pos_embed": ("RoPE100",),
    "patch_embed_cls": ("PatchEmbedDust3R", "ManyAR_PatchEmbed"),
    "head_type": ("dpt",),
    "output_mode": ("pts3d",),
    "depth_mode": (("exp", float("-inf"), float("inf")),),
    "conf_mode": (("exp", 1, float("inf")),),
    "mask_mode": (("sigmoid", 0, 1),),
}
"""What the keys of a configuration that choose between architectures may say here. The two patch embeddings differ in
how portrait frames are fed to them, not in their weights."""


@dataclass(frozen=True)
class NetworkConfig:
    """What the weights do not settle by themselves; the defaults are those of the published 512-pixel networks."""

    enc_embed_dim: int = 1024
    """Channels of the encoder's tokens."""
    enc_depth: int = 24
    """Blocks of the encoder."""
    enc_num_heads: int = 16
    """Attention heads of the encoder."""
    dec_embed_dim: int = 768
    """Channels of the decoders' tokens."""
    dec_depth: int = 12
    """Blocks of each decoder."""
    dec_num_heads: int = 12
    """Attention heads of the decoders."""
    mask_heads: bool = True
    """Whether there are heads for the dynamic probability: DAS3R has them, MonST3R and DUSt3R do not."""

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> NetworkConfig:
        """Read the configuration stored with a checkpoint.

        Args:
            config: Constructor arguments under their official names, and optionally ``mask_heads``. What does not
                change the result here (img_size, landscape_only, freeze, vn_layer, ...) is passed over.

        Raises:
            Das3rError: It describes another architecture, or sizes that cannot be.
        """
        for key, allowed in _EXPECTED.items():
            value = config.get(key, allowed[0])
            value = tuple(value) if isinstance(value, list) else value
            if value not in allowed:
                raise Das3rError(
                    f"The network's configuration has {key} = {value!r}, where only "
                    f"{' or '.join(repr(item) for item in allowed)} is supported: this is a checkpoint of another "
                    "architecture. Use one of DAS3R, MonST3R or DUSt3R (512 pixels, DPT heads)."
                )
        sizes = {name: config[name] for name in asdict(cls()) if name in config}
        for name, value in sizes.items():
            wanted = bool if name == "mask_heads" else int
            if type(value) is not wanted or (wanted is int and value < 1):
                kind = "true or false" if wanted is bool else "a positive whole number"
                raise Das3rError(f"The network's configuration has {name} = {value!r}; it must be {kind}.")
        made = cls(**sizes)
        for part in ("enc", "dec"):
            width, heads = getattr(made, f"{part}_embed_dim"), getattr(made, f"{part}_num_heads")
            if width % (4 * heads):
                raise Das3rError(
                    f"The network's configuration has {part}_embed_dim = {width} and {part}_num_heads = {heads}: the "
                    "width must be a multiple of four times the number of heads. The configuration is damaged; get "
                    "the checkpoint anew."
                )
        return made

    def to_dict(self) -> dict[str, Any]:
        """What config.json of a checkpoint says of this network; of mask heads only the weights tell."""
        out: dict[str, Any] = {key: allowed[0] for key, allowed in _EXPECTED.items()}
        sizes = {name: value for name, value in asdict(self).items() if name != "mask_heads"}
        return {**out, **sizes, "img_size": (512, 512), "landscape_only": False}
