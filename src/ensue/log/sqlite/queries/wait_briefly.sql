-- From now on, on this connection, wait for others for 50 milliseconds at most: who waits keeps writers out.
pragma busy_timeout = 50
