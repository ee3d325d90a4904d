# SPDX-License-Identifier: Apache-2.0
"""A gateway process of the invented domain, with a clock of its own.

http_gateway.py SETTINGS SHIFT      SHIFT: seconds to add to this computer's clock
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.app import serve
from gateway.settings import load_settings

if __name__ == "__main__":
    shift = float(sys.argv[2])
    serve(load_settings(Path(sys.argv[1]), environment={}), now=lambda: time.time() + shift)
