lock table ensue.projections in share row exclusive mode
