"""Loyalty: points for what was shipped. It came last, and nobody noticed."""
