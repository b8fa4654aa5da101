-- From now on, on this connection, what is deleted is overwritten with zeros where that costs no writing.
pragma secure_delete = fast
