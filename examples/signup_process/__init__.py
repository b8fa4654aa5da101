"""A sign-up as a process manager: a deadline, tries in between, and compensation."""
