"""Video, audio, face tracking, segmentation and metrics: everything between a user's files and plain arrays."""
