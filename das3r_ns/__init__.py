"""das3r: the clean static 3D scene out of any casual video, as a nerfstudio method."""

__version__ = "0.2.0"
