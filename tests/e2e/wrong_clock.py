# SPDX-License-Identifier: Apache-2.0
"""Umuhuza on a computer whose clock is wrong: `wrong_clock.py SECONDS command...`.

Python's clock is moved before anything of ours is imported, so that the whole process lives in the wrong time. File
times stay the system's, as with a clock that was set after the files were written.
"""

from __future__ import annotations

import sys
import time

if __name__ == "__main__":
    _right, _wrong_by = time.time, float(sys.argv.pop(1))
    time.time = lambda: _right() + _wrong_by

    from umuhuza.cli import main

    main()
