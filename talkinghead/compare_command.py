"""The command that compares speech features on one person."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from talkinghead.arguments import Output, Video
from talkinghead.config import CompareConfig
from talkinghead.terminal import print_table, show


@dataclass(frozen=True)
class Compare:
    """Measure which speech feature drives a person's lips best: SE4Lip's Tables 3 and 6 for this person.

    The head is fitted once, and the lips for every feature anew. A comparison that was stopped goes on where it was.
    """

    video: Video
    """One person talking to the camera, 10 to 60 s, with sound; its last fifth is measured on."""
    output: Output
    """Folder for comparison.json and an avatar for every feature: a new one, or that of an earlier comparison."""
    overwrite: bool = False
    """Replace a comparison of another video, preset, seed or release; without it, and for the same, it goes on."""
    compare: CompareConfig = field(default_factory=CompareConfig)

    def run(self) -> None:
        from talkinghead.outputs import check_comparison_folder

        check_comparison_folder(self.output)
        from tools.media import open_media

        with open_media(self.video):  # says what is wrong with the path before anything slow is loaded
            pass
        from talkinghead.compare import compare

        comparison = show(compare(self.video, self.output, self.compare, self.overwrite))
        print_table(comparison.to_table())
        for note in comparison.notes:
            print(f"note: {note}", file=sys.stderr)
