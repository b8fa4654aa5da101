"""A shop of four services, and a fifth that was added later: `python -m examples.shop`."""
