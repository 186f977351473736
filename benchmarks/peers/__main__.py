"""Start a contender, for a race: python -m benchmarks.peers NAME JOB, where NAME is its module.

Not each module by itself: what Ray and Celery send to other processes must have an importable name, and not __main__.
"""

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.peers.harness import serve

serve(import_module(f"benchmarks.peers.{sys.argv[1]}").CONTENDER, Path(sys.argv[2]))
