"""What helps to test with ensue, and to test ensue itself."""

from ensue.testing.given import given

__all__ = ["given"]
