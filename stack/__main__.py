"""``python -m stack demo`` makes images in a real Airflow and ends; ``… up`` leaves it running."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stack import demo
from stack.processes import sigterm_as_exit


def main() -> int:
    """Parse the command line and run; 130 when interrupted, as shells expect."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    parser.add_argument("command", choices=["demo", "up"])
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for the images")
    parser.add_argument("--bad-day", action="store_true", help="the API limits, fails and drops connections")
    parser.add_argument("--port", type=int, help="of Airflow's UI; a free one by default")
    options = parser.parse_args()
    output, faults = options.output.absolute(), demo.BAD_DAY if options.bad_day else ()
    try:
        with sigterm_as_exit():
            if options.command == "demo":
                return demo.demo(output, database=options.database, faults=faults)
            return demo.up(output, database=options.database, faults=faults, port=options.port)
    except KeyboardInterrupt:
        demo.say("Ended.")
        return 0 if options.command == "up" else 130


if __name__ == "__main__":
    sys.exit(main())
