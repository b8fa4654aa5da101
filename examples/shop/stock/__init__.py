"""Stock: what is there, and for which order it is kept."""
