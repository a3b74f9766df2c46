-- What is booked, by whom and when.

-- Lets a GiST index compare text with "=", next to ranges with "&&".
create extension if not exists btree_gist;

create table reservation (
    -- A UUIDv7 made by the service, as in customer.
    id uuid primary key,
    customer_id uuid not null
        constraint reservation_customer_fk references customer (id),
    -- Whatever can be taken by one reservation at a time: a table, a room, a boat.
    resource text not null
        constraint reservation_resource_length check (char_length(btrim(resource)) > 0 and char_length(resource) <= 100),
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    party_size integer not null
        constraint reservation_party_size check (party_size between 1 and 1000),
    status text not null default 'confirmed'
        constraint reservation_status_known check (status in ('confirmed', 'cancelled')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),

    -- Half-open: the last moment belongs to the next guest, so an empty period would take nothing and is refused.
    constraint reservation_period_order check (starts_at < ends_at),
    -- Years that RFC 3339 can write in any offset.
    constraint reservation_period_range
        check (starts_at >= timestamptz '1970-01-01 00:00+00' and ends_at < timestamptz '9999-12-31 00:00+00'),
    -- One resource is never booked twice at one time; one reservation may start when the other ends.
    constraint reservation_no_overlap
        exclude using gist (resource with =, tstzrange(starts_at, ends_at, '[)') with &&)
        where (status = 'confirmed')
);

-- One index for each filter of the list; with id last the first two give "newest first" as well. The first also
-- answers whether a customer that is to be deleted has reservations.
create index reservation_customer on reservation (customer_id, id);
create index reservation_resource on reservation (resource, id);
create index reservation_period on reservation using gist (tstzrange(starts_at, ends_at, '[)'));
