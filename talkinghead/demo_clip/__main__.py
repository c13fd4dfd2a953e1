"""python -m talkinghead.demo_clip OUT_DIR: make the demo clip, its ground truth and its driving speech anew."""

from __future__ import annotations

import argparse
from pathlib import Path

from talkinghead.demo_clip.making import make_demo_clip
from tools.errors import UserError


def main() -> None:
    """Make the files that `talkinghead/assets` holds."""
    parser = argparse.ArgumentParser(prog="python -m talkinghead.demo_clip", description=__doc__.partition(": ")[2])
    parser.add_argument("folder", metavar="OUT_DIR", type=Path, help="where the files go")
    try:
        make_demo_clip(parser.parse_args().folder)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
