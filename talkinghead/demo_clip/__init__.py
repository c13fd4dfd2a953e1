"""The sample person: a public-domain portrait that speaks, with exact ground truth."""
