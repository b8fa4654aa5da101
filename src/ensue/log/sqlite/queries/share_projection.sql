-- Nothing: the transaction has the file's write lock.
select :projection
