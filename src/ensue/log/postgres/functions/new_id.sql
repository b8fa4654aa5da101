-- A UUIDv7 (RFC 9562) for events that come without an id. Not in SQL: the planner would put it into every insert.
create or replace function ensue.new_id() returns uuid language plpgsql volatile as $$
begin
    return encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                from 1 for 6),
            52, 1), 53, 1),
        'hex')::uuid;
end
$$
