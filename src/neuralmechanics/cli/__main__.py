"""`python -m neuralmechanics.cli` is the command `neuralmechanics`."""

import sys

from neuralmechanics.cli.entry import main

sys.exit(main())
