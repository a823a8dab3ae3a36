"""The minimum cut of a graph with capacities, by the maximum flow that passes through it.

By the theorem of Ford and Fulkerson the greatest flow from a source to a sink is as great as the
least capacity that must be taken away to part the two [ford1956].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

SOURCE, SINK = 0, 1
_WHOLE = 2**29
"""The capacities of scipy's flows are integers of 32 bits, and this is infinite: the sum of ours is
scaled to half of it or less, by a power of two, so that whole numbers that are equal stay so."""


def sink_side(size: int, edges: Mapping[tuple[int, int], float]) -> Sequence[bool]:
    """Which of `size` nodes lie on the sink's side of a minimum cut; the smallest such side.

    Args:
        edges: the capacity from one node to another, which may be `math.inf`. Node 0 is the
            source, node 1 the sink. Some cut must be finite.

    The narrowest pipe of source → 2 → 3 → sink is the middle one:

    >>> list(map(bool, sink_side(4, {(0, 2): 5.0, (2, 3): 1.0, (3, 1): 7.0})))
    [False, True, False, True]
    """
    # Imported here: it takes as long as tracing a small model, and is not always needed.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    starts, ends = zip(*edges, strict=True)
    capacities = edges.values()
    finite = sum(c for c in capacities if math.isfinite(c)) or 1.0
    scale = 2.0 ** math.floor(math.log2(_WHOLE / 2 / finite))
    scaled = [_WHOLE if math.isinf(c) else math.ceil(c * scale) for c in capacities]
    data = np.asarray(scaled, np.int32)
    network = csr_array((data, (starts, ends)), shape=(size, size))
    flow = maximum_flow(network, SOURCE, SINK).flow
    left = network - flow
    left.eliminate_zeros()
    # What still reaches the sink: a walk from it, against the edges that have capacity left.
    reached = breadth_first_order(left.T.tocsr(), SINK, return_predecessors=False)
    side = np.zeros(size, bool)
    side[reached] = True
    return side.tolist()
