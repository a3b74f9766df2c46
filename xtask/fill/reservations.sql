-- Reservations of the resources number $1 to $2 that begin in the 31 days after the day $3 (days since 1970): $4 rows, as
-- they were made by the moment $5 (seconds since 1970). $6 customers, whose ids are made of $7 and $8 as in customers.sql.
--
-- In these days a resource is used in one of four ways: by one long stay, by four of days up to a week, by fifteen of one or
-- two days, or for some hours twice a day. Each stay has a slot of its own, so none overlap. Of all slots the statement
-- takes as many as it is to; the resource has no reservation in the others.
with used as (
    select resource, random() as kind
    from generate_series($1::bigint, $2::bigint) as resource
),
slot as (
    select
        resource,
        slots,
        number,
        random() as length_by,
        random() as start_by,
        random() as ahead_by,
        random() as regular_by,
        random() as customer_by,
        random() as status_by,
        random() as taken_by
    from used
    cross join lateral (
        values (case when kind < 0.03 then 1 when kind < 0.08 then 4 when kind < 0.2 then 15 else 62 end)
    ) as division (slots)
    cross join lateral generate_series(0, slots - 1) as number
),
-- Lengths in minutes.
stay as (
    select *, 44640 / slots as room, case slots
        when 1 then 1440 * (14 + floor(length_by * 18)::bigint)
        when 4 then 1440 * (3 + floor(length_by * 5)::bigint)
        when 15 then 1440 * (1 + floor(length_by * 2)::bigint)
        else (array[30, 30, 45, 60, 60, 60, 90, 90, 120, 120, 120, 180, 240, 480])[1 + floor(length_by * 14)::integer]
    end as length
    from (select * from slot order by taken_by limit $4) as taken
),
placed as (
    select *, 60 * ($3::bigint * 1440 + number * room + floor((room - length) / 15 * start_by)::bigint * 15) as begins
    from stay
),
-- Made up to two months ahead, and never in the future. One in fifty is of a regular, who goes to ten resources.
made as (
    select
        *,
        least(begins - 3600 - ahead_by * ahead_by * 5000000, $5::bigint - ahead_by * 100000) as moment,
        case when regular_by < 0.02 then resource / 10 else floor(customer_by * $6::bigint)::bigint end as customer
    from placed
    offset 0
)
insert into reservation (id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at)
select
    (lpad(to_hex((moment * 1000)::bigint), 12, '0') || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid,
    (lpad(to_hex($7::bigint + customer * $8::bigint), 12, '0') || '70008' || lpad(to_hex(customer), 15, '0'))::uuid,
    'table-' || resource,
    to_timestamp(begins),
    to_timestamp(begins + 60 * length),
    1 + number % 8,
    case when status_by < 0.08 then 'cancelled' else 'confirmed' end,
    to_timestamp(moment),
    to_timestamp(moment)
from made
cross join lateral (select md5(resource || ' ' || begins) as hash offset 0) as seed
order by moment
