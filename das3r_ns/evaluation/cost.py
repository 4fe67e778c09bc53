"""What a measurement costs: wall and CPU seconds, and memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass, field


@dataclass
class Cost:
    """What this process has used since the object was made."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=lambda: sum(os.times()[:4]))

    def so_far(self) -> dict[str, float]:
        """Wall and CPU seconds, and the peak of resident memory of the whole process, MB; on a GPU its peak too."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        unit = 1 if sys.platform == "darwin" else 1024
        used = {
            "wall_s": round(time.perf_counter() - self.wall, 3),
            "cpu_s": round(sum(os.times()[:4]) - self.cpu, 2),
            "peak_mb": round(max(peak, children) * unit / 1e6),
        }
        torch = sys.modules.get("torch")  # where nothing has imported it, nothing has used a GPU
        if torch is not None and torch.cuda.is_available():
            used["gpu_peak_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
        return used
