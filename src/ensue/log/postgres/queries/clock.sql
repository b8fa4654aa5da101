select ensue.iso(clock_timestamp())
