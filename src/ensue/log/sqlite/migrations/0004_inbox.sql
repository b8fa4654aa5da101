-- The inbox: which message of which source a consumer has taken in, in the transaction of what it led to.
create table ensue_inbox (
    consumer    text not null,
    source      text not null,
    id          text not null,
    received_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (consumer, source, id)
) without rowid
-- next
create index ensue_inbox_received_at on ensue_inbox (received_at)
