# To be appended to external_methods in nerfstudio/configs/external_methods.py.

# das3r
external_methods.append(
    ExternalMethod(
        """[bold yellow]das3r[/bold yellow]
For more information visit: https://docs.nerf.studio/nerfology/methods/das3r.html

To enable das3r, you must install it first by running:
  [grey]pip install das3r-ns[/grey]""",
        configurations=[
            (
                "das3r",
                "The clean static scene out of a casual video, without what moves (no COLMAP, poses or masks needed).",
            ),
            ("das3r-light", "das3r sized for CPUs and laptops."),
            (
                "das3r-paper",
                "The DAS3R paper's own recipe (per-pixel Gaussians and staticness, no densification), for comparison.",
            ),
        ],
        pip_package="das3r-ns",
    )
)
