-- The inbox: which message of which source a consumer has taken in, in the transaction of what it led to.
create table ensue.inbox (
    consumer    text not null,
    source      text not null,
    id          text not null,
    received_at timestamptz not null default clock_timestamp(),
    primary key (consumer, source, id)
)
-- next
create index inbox_received_at on ensue.inbox using brin (received_at) with (pages_per_range = 32)
