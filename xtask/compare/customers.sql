-- What `cargo xtask compare` reads: 10,000 customers, one a minute, one in four without a phone number.

insert into customer (id, name, email, phone, created_at, updated_at)
select
    -- A UUIDv7: 48 bits of milliseconds, then what makes it unique and always the same.
    (
        lpad(to_hex(floor(extract(epoch from joined) * 1000)::bigint), 12, '0')
        || '7' || substr(md5(number::text), 1, 3)
        || '8' || substr(md5(number::text), 4, 15)
    )::uuid,
    'Customer ' || number,
    'customer.' || number || '@example.com',
    case when number % 4 > 0 then '+44 1632 960' || lpad((number % 1000)::text, 3, '0') end,
    joined,
    joined
from generate_series(1, 10000) as number
cross join lateral (select timestamptz '2026-01-01 00:00+00' + number * interval '1 minute') as moment (joined);

-- So that autovacuum has nothing to do during the load.
vacuum analyze customer;
