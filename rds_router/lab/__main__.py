"""``python -m rds_router.lab``."""

from __future__ import annotations

from rds_router.lab.cli import main

if __name__ == "__main__":
    main()
