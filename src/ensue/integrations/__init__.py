"""What fits ensue into frameworks: a module for each, which needs that framework and no other."""
