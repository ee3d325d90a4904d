# SPDX-License-Identifier: Apache-2.0
"""Processes that kill themselves, forked from one server that has imported what they need: importing it for each of
them takes longer than what is tested. A run has one such server, so all that it imports stands here."""

from __future__ import annotations

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.crash_agency", "tests.crash_keys"])
