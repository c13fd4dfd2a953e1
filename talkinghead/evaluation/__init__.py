"""Measuring an avatar: what drives each row, what looks at the pictures, and the table."""
