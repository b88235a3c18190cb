"""``python -m bundle.cli``: the command without its script, as in a checkout that is not installed."""

import sys

from bundle.cli.main import main

sys.exit(main())
