-- Reservations by time: no longer than 31 days, and found in the order in which they start.
--
-- A bound on the length is what bounds a search: what takes some time after a moment began at most 31 days before it.
-- 31 × 24 hours, whatever clocks do in between.
--
-- Of a longer reservation that is there already nothing is lost: it becomes several, one after the other and each of at
-- most 31 days, with the same customer, resource, party size and status. The first keeps its id; the others are new ones.
-- Who wants to decide for themselves looks before this migration runs:
--     select * from reservation where ends_at - starts_at > interval '31 days';
--
-- The ids are UUIDv7 of now: random ones (version 4) with the time put in front and the version's other bits set. Days
-- are written as hours, because a day of the session's time zone may have 23 or 25.
with shortened as (
    update reservation
    set ends_at = reservation.starts_at + interval '744 hours', updated_at = now()
    from reservation as longer
    where longer.id = reservation.id and longer.ends_at - longer.starts_at > interval '31 days'
    returning longer.*
)
insert into reservation (id, customer_id, resource, starts_at, ends_at, party_size, status)
select
    encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        placing substring(int8send((extract(epoch from now()) * 1000)::bigint) from 3) from 1 for 6
    ), 52, 1), 53, 1), 'hex')::uuid,
    customer_id,
    resource,
    begins_at,
    least(begins_at + interval '744 hours', ends_at),
    party_size,
    status
from shortened
cross join lateral generate_series(
    starts_at + interval '744 hours', ends_at - interval '1 microsecond', interval '744 hours'
) as begins_at;

alter table reservation
    add constraint reservation_length check (ends_at - starts_at <= interval '31 days');

-- Lengths that divide reservations into classes: those of up to 30 minutes, of up to an hour, and so on. What runs at a
-- moment began, in each class, not long before it compared with its own length; so nearly all that is read there, in
-- order, belongs to the answer. Each bound is two or three times the one before it, and is a length that is common.
--
-- An index is built with these lengths. To change them, make another function and another index: replacing this one
-- would leave the index as it was, and reservations would not be found.
create function reservation_lengths() returns interval[]
    language sql immutable parallel safe
    return '{00:30, 01:00, 02:00, 04:00, 08:00, 24:00, 48:00, 96:00, 168:00, 336:00, 744:00}'::interval[];

-- One index for each way to ask for a window of time; `id` makes the order one of single rows, and with `ends_at` what
-- ended before the window is passed over without a look at its row. Nobody writes while they are built, half a minute each
-- for ten million rows: to have it otherwise, `create index concurrently`, each in a migration without a transaction.
create index reservation_window on reservation (
    width_bucket(ends_at - starts_at - interval '1 microsecond', reservation_lengths()), starts_at, id, ends_at
);
create index reservation_customer_window on reservation (customer_id, starts_at, id, ends_at);
create index reservation_resource_window on reservation (resource, starts_at, id, ends_at);

-- Was for windows, whose rows it gave in no order.
drop index reservation_period;
