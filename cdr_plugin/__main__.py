"""``python -m cdr_plugin`` is ``cdr``."""

from cdr_plugin.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
