"""A job's process: the command line with the configuration that the agent has in force.

``python -m cdr_plugin.agent.job_main FILE ARGUMENT...``; the text of FILE comes on standard input. FILE itself
may have become something else, or broken, since the agent read it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cdr_plugin.cli.main import main
from cdr_plugin.config.load import parse_config

if __name__ == "__main__":
    file, *arguments = sys.argv[1:]
    sys.exit(main(["-c", file, *arguments], lambda: parse_config(sys.stdin.buffer.read().decode(), Path(file))))
