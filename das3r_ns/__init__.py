"""das3r: the clean static 3D scene out of any casual video, as a nerfstudio method."""

from das3r_ns.renamed import explain_renamed_modules

__version__ = "0.2.0"

explain_renamed_modules()
