"""Programs that mypy and pyright must accept, or refuse where they say so."""
