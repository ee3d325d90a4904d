# SPDX-License-Identifier: Apache-2.0
from umuhuza.cli import main

main()
