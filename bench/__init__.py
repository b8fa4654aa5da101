"""Side-by-side measurements: ensue, the bare driver doing the same work, and a peer. Run with `make bench`."""
