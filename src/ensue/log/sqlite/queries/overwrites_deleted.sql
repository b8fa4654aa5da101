-- Whether this connection overwrites with zeros what it deletes: 0 no, 1 yes, 2 where that costs no writing.
pragma secure_delete
