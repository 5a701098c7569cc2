"""python -m tfcnn."""

import sys

from tfcnn.cli import main

sys.exit(main())
