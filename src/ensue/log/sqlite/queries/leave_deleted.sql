-- From now on, on this connection, what is deleted stays in the file until it is written over.
pragma secure_delete = off
