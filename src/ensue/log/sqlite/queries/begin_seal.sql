-- Make the row that tells how far the seal is, if there is none.
insert into ensue_seal (size, position) select 0, 0 where not exists (select 1 from ensue_seal)
