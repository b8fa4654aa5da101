-- Up to which position a sealed log has been signed; no row: it is not sealed.
select coalesce((select max(position) from ensue_seal_checkpoints), 0) from ensue_seal
