-- From now on, on this connection, what is deleted is overwritten with zeros.
pragma secure_delete = on
