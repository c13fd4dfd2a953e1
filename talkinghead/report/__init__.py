"""report.html: what an avatar looks like, how it was trained and how good it is, in one file that opens anywhere."""
