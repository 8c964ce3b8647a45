"""`python -m portrait`."""

import sys

from portrait.cli.main import main

sys.exit(main())
