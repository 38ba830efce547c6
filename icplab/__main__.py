"""`python -m icplab` is `icplab`."""

from icplab.cli import main

raise SystemExit(main())
