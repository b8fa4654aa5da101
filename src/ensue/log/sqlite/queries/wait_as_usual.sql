-- As connections of ensue's own usually do, in milliseconds.
pragma busy_timeout = 10000
