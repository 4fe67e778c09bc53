"""Objects: what hangs together, and stands out of its surroundings by the same evidence of motion.

Not all that shows something and touches is one object. A walker touches the lorry behind him, a table whose depth is in
doubt the cow behind it; and an object is judged by what most of it shows. Over the graph of a clip's superpixels the
evidence is a landscape, and objects are its mountains, with all slopes around them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix

from das3r_ns.frontend.geometric.motion.objects_kernels import summits

APART = 0.5
"""Share of the lower of two summits that the way between them has to fall to where they are two objects: what shows
less than half of what an object does is decided not to be part of it."""


def objects(
    value: Float[np.ndarray, " S"], touching: Int[np.ndarray, "T 2"], least: float
) -> tuple[int, Int[np.ndarray, " S"]]:
    """How many objects there are, and that of each superpixel; one that shows too little is alone.

    Args:
        value: Evidence of motion of each superpixel, 0 to 1.
        touching: Superpixels that touch, in a frame or along the flow.
        least: Evidence from which a superpixel may be part of an object.
    """
    first, second = touching[(value[touching] > least).all(axis=1)].T
    both_ways = np.concatenate([first, second]), np.concatenate([second, first])
    graph = coo_matrix((np.ones(2 * len(first), bool), both_ways), shape=(len(value), len(value))).tocsr()
    found = summits(value, np.argsort(-value, kind="stable"), graph.indptr, graph.indices, APART)
    names, label = np.unique(found, return_inverse=True)
    return len(names), label
