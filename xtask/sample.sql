-- Sample data for `cargo dev`: 300 customers and their reservations of twenty tables, from a week ago to four weeks
-- ahead. The same rows every time, only placed around now(). Does nothing to a table that has rows.

-- A UUIDv7 of a moment: its 48 bits of milliseconds, then what makes it unique and always the same.
create or replace function pg_temp.uuid_of(moment timestamptz, seed text) returns uuid language sql immutable as $$
    select (
        lpad(to_hex(floor(extract(epoch from moment) * 1000)::bigint), 12, '0')
        || '7' || substr(md5(seed), 1, 3)
        || '8' || substr(md5(seed), 4, 15)
    )::uuid
$$;

-- Twenty first names and fifteen last names make 300 people; one in four gave no phone number (the others have
-- numbers of Britain's range for fiction).
with person as (
    select
        number,
        (array['Ada', 'Bruno', 'Chiara', 'Dmitri', 'Elif', 'Fatima', 'Grace', 'Hiro', 'Ingrid', 'José',
               'Kavya', 'Liam', 'Mei', 'Noor', 'Olga', 'Pablo', 'Quentin', 'Rosa', 'Samuel', 'Zoë'])[number % 20 + 1] as first,
        (array['Abara', 'Brown', 'Castillo', 'Dubois', 'Eriksson', 'Fischer', 'García', 'Haddad', 'Ivanova', 'Jensen',
               'Kowalski', 'Müller', 'Nakamura', 'O''Brien', 'Patel'])[number / 20 + 1] as last,
        date_trunc('minute', now()) - interval '400 days' + number * interval '31 hours' as joined
    from generate_series(0, 299) as number
)
insert into customer (id, name, email, phone, created_at, updated_at)
select
    pg_temp.uuid_of(joined, 'customer ' || number),
    first || ' ' || last,
    translate(lower(first || '.' || last), 'éëíü''', 'eeiu') || '@example.com',
    case when number % 4 > 0 then '+44 1632 960' || lpad(number::text, 3, '0') end,
    joined,
    joined
from person
where not exists (select from customer);

-- Two sittings an evening. About every third is taken, one in nine of those was called off. A reservation is made
-- some days ahead, never in the future.
with sitting as (
    select
        row_number() over (order by day, seat, round) as number,
        'table-' || seat as resource,
        date_trunc('day', now(), 'UTC') + day * interval '1 day' + interval '18 hours' + round * interval '2 hours' as opens
    from generate_series(-7, 28) as day, generate_series(1, 20) as seat, generate_series(0, 1) as round
    where ('x' || substr(md5(day || ' ' || seat || ' ' || round), 1, 7))::bit(28)::integer % 3 = 0
),
made as (
    select *, date_trunc('minute', least(opens - interval '3 days', now())) - number % 97 * interval '53 minutes' as moment
    from sitting
),
guest as (
    select id, row_number() over (order by id) - 1 as number
    from customer
    where email like '%@example.com'
)
insert into reservation (id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at)
select
    pg_temp.uuid_of(moment, 'reservation ' || made.number),
    guest.id,
    resource,
    opens,
    opens + interval '90 minutes' + made.number % 2 * interval '30 minutes',
    1 + made.number * 7 % 8,
    case when made.number % 9 = 0 then 'cancelled' else 'confirmed' end,
    moment,
    moment
from made
join guest on guest.number = made.number * 37 % 300
where not exists (select from reservation);

analyze customer, reservation;
