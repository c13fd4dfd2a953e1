"""`talkinghead dub`: many jobs, and films of which only some lines are spoken anew."""
