"""Orders: placed, and in the end shipped or cancelled."""
