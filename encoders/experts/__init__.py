"""Networks that judge rendered mouths while a person's lips are learned, and one that only measures."""
